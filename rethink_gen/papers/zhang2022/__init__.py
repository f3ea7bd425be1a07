"""Zhang, Bengio and Singer 2022 (arXiv 1902.01996): which layers matter; the measure is in measures/layers.py."""
