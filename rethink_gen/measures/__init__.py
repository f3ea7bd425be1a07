"""Measures: numbers of a trained network, such as norms, margins and sharpness; pure functions of a `Network`."""
