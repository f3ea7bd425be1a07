"""Wyner, Olson, Bleich and Mease 2017 (arXiv 1504.07676): protocol. The paper has figures, and no table of numbers."""
