"""Neyshabur et al. 2017 (arXiv 1706.08947): measures of capacity; the measures are in measures/."""
