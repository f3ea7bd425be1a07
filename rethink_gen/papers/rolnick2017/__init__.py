"""Rolnick et al. 2017: massive label noise. Its results are figures, so there are no values."""
