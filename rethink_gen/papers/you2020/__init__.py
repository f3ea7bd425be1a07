"""You et al. 2020: LAMB. Nobody has published what is asked of it here, so there are no values."""
