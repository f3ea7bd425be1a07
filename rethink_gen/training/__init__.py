"""Training: one run as pure functions; many runs compiled, vectorized, checkpointed and measured."""
