"""How a run learns: optimizers, learning-rate schedules, losses, and orders of examples, each by name."""
