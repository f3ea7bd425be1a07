"""Dziugaite and Roy 2017 (arXiv 1703.11008): protocol, and the numbers of Table 1 from memory."""
