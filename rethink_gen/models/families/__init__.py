"""Families of networks for small images, one per file, and the blocks that they share."""
