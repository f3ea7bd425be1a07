"""The version of the package, in a module of its own so that all rooms can know it."""

__version__ = "0.2.0"
