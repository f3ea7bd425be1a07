"""Jiang et al. 2021 (arXiv 2002.03206): the C-score, the expected accuracy of a held-out example."""
