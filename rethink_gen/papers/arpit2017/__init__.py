"""Arpit et al. 2017 (arXiv 1706.05394): how networks memorize; critical samples are in measures/critical.py."""
