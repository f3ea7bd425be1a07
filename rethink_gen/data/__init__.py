"""Data sets and what is done to them: loading, caching, corruptions, augmentations, streaming."""
