"""One run as pure functions, and many runs compiled, vectorized, checkpointed and measured."""
