"""Nagarajan and Kolter 2019 (arXiv 1902.04742): bounds against the number of examples; the norms are in measures/."""
