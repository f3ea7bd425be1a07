"""Nakkiran et al. 2019 (arXiv 1912.02292): protocol, and numbers of the authors and of others."""
