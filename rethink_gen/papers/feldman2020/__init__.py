"""Feldman and Zhang 2020 (arXiv 2008.03703): memorization and influence; both are computed in results/outcomes.py."""
