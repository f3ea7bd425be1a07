"""Maennel et al. 2020 (arXiv 2006.10455): pre-training on random labels; the measure is in measures/alignment.py."""
