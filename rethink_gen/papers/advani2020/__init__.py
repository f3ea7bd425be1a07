"""Advani and Saxe 2020 (arXiv 1710.03667): a linear teacher and student; the theory is in solvers/teacher.py."""
