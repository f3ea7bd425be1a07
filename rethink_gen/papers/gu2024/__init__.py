"""Gu, Zheng and Aste 2024 (arXiv 2310.13572): numbers and protocol from the authors' public files."""
