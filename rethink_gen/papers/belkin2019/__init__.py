"""Belkin, Hsu, Ma and Mandal 2019 (arXiv 1812.11118): protocol. The paper has figures, and no table of numbers."""
