"""Curth, Jeffares and van der Schaar 2023 (arXiv 2310.18988): protocol. The paper has figures, and no numbers."""
