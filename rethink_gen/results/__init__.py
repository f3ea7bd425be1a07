"""One run, one file: reading, writing and locking results, frames, intervals and verdicts."""
