"""Belkin, Hsu and Xu 2020 (arXiv 1903.07571): weak features; the theory is in solvers/teacher.py."""
