"""Early-learning regularization: what the paper and its repository report."""
