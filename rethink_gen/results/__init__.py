"""Results: one file per run. Read, write and lock them; build frames, intervals and verdicts."""
