"""Frames to tables, figures, pictures and the report. Imports no jax."""
