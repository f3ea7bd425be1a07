"""Bartlett, Foster and Telgarsky 2017 (arXiv 1706.08498): margins over spectral complexity; in measures/margins.py."""
