"""The catalog: the components that come with the package, of each kind, with their options and descriptions.

A built-in component is one entry here and one object elsewhere. Entries name objects by strings, so importing this
loads no jax. `registry` looks components up, and adds those of users.
"""

from rethink_gen.catalog import data, measures, models, solvers, training
from rethink_gen.catalog.component import Component as Component
from rethink_gen.catalog.models import LEARNING_RATE as LEARNING_RATE
from rethink_gen.catalog.models import LEARNING_RATES as LEARNING_RATES

# The values that options of built-in components can have, both ends included; of several numbers, each of them.
OPTION_RANGES: dict[str, tuple[float, float]] = {
    "hidden": (1, 10**6),
    "width": (0.01, 10**4),
    "depth": (0.01, 10**4),
    "blocks": (1, 10**3),
    "convolutions": (1, 10**3),
    "hidden_units": (0, 10**6),
    "stem": (0, 10**4),
    "growth": (1, 10**4),
    "last": (1, 10**5),
    "patch": (1, 10**3),
    "heads": (1, 10**3),
    "scale": (0, 1e3),
    "auxiliary_weight": (0, 1e3),
    "batch_norm_momentum": (0, 1),
    "batch_norm_epsilon": (0, 1),
    "padding": (0, 1000),
    "statistics": (0, 3),
    "b1": (0, 0.999999),
    "b2": (0, 0.999999999),
    "decay": (0, 1),
    "eps": (0, 1),
    "trust": (0, 1e3),
    "memory": (1, 10**4),
    "warmup_epochs": (0, 1e6),
    "at": (0, 1e6),
    "factor": (0, 1e3),
    "final": (0, 1e3),
    "capacity": (1, 10**9),
    "times": (1, 10**6),
    "share": (1e-6, 1),
    "alpha": (0, 10**6),
    "side": (1, 4096),
    "q": (1e-6, 1),
    "beta": (0, 1),
    "keep": (1e-6, 1),
    "weight": (0, 1e3),
    "trees": (1, 10**6),
    "rounds": (1, 10**6),
    "members": (1, 10**4),
    "leaves": (2, 10**8),
    "least_in_leaf": (1, 10**9),
    "rate": (0, 1e3),
    "neighbors": (1, 10**9),
    "C": (1e-12, 1e12),
    "folds": (2, 10**6),
    "candidates": (2, 10**6),
    "parents": (1, 10**6),
    "patience": (1, 10**9),
    "step": (1e-12, 1e6),
    "p": (1, 100),
    "percentile": (0, 100),
    "epsilon": (1e-12, 1e3),
    "dimensions": (0, 10**5),
    "iterations": (1, 10**6),
    "tolerance": (1e-12, 1),
    "drop": (1e-6, 1),
    "draws": (1, 10**6),
    "layer": (1, 10**4),
}

BUILT_IN = {
    "model": models.MODELS,
    "corruption": data.CORRUPTIONS,
    "augmentation": data.AUGMENTATIONS,
    "features": solvers.FEATURES,
    "kernel": solvers.KERNELS,
    "learner": solvers.LEARNERS,
    "search": solvers.SEARCHES,
    "optimizer": training.OPTIMIZERS,
    "schedule": training.SCHEDULES,
    "loss": training.LOSSES,
    "order": training.ORDERS,
    "measure": measures.MEASURES,
    "dataset": {},
}
