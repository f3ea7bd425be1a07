"""Toneva et al. 2018 (arXiv 1812.05159): forgetting events; the scores are in results/scores.py."""
