"""Run, load and train: what the command line and notebooks share."""
