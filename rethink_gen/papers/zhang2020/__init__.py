"""Zhang et al. 2020: one image to learn the identity from. The results are figures, so there are no values."""
