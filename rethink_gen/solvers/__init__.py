"""Solvers in closed form or by linear algebra: kernel machines, Theorem 1, least squares."""
