"""Synthetic results for the tests of statistics, tables and figures: what counts is written down, the rest is plain."""

from dataclasses import replace

from rethink_gen.results.frames import frame
from rethink_gen.results.result import Result
from rethink_gen.runs import Run

MLP = Run(model="mlp_1x512", learning_rate=0.01)
RANDOM = replace(MLP, corruption="random_labels")


def result(run, train=(0.1, 1.0), test=0.5, status="finished", num_test=10_000):
    """A run with these training accuracies by epoch of 390 steps; test accuracy 0.1 at first and `test` after."""
    n = len(train)
    curves = {
        "epoch": list(range(n)),
        "step": [390 * i for i in range(n)],
        "train_loss": [2.3 * (1 - accuracy) for accuracy in train],
        "train_accuracy": list(train),
        "train_accuracy_corrupted": [None] * n,
        "running_accuracy": [None, *train[:-1]],
        "test_loss": [2.3] * n,
        "test_accuracy": [0.1, *[test] * (n - 1)],
    }
    about = {
        "device": "a device",
        "num_train": 50_000,
        "num_test": num_test,
        "seconds_compile": 1.0,
        "seconds_train": 2.0,
    }
    return Result(run, status, curves, about)


def seeds(run, name, values, **others):
    """One result per value, under seeds 0, 1, …: `seeds(MLP, "test", [0.5, 0.6])`."""
    return [result(replace(run, seed=seed), **{name: value}, **others) for seed, value in enumerate(values)]


def tidy(results, scale="paper"):
    """The frame of results, as `suite` hands it to tables and figures."""
    return frame(results).assign(scale=scale)


def own_experiment(run, axes, *by, more=""):
    """A file of experiments of a user's own: the grid of a run over axes, its table by some, and a true sentence."""
    names = ", ".join(f'"{name}"' for name in by)
    return f'''"""Digits for a while."""
from matplotlib.figure import Figure

from rethink_gen import Experiment, Run, grid
from rethink_gen.analysis.declare import by

RUNS = grid(Run(dataset="digits", {run}), {axes})


def there_are_runs(study):
    """There are runs."""
    return len(study.runs) > 0, "counted"


EXPERIMENT = Experiment(
    claim="Labels matter.",
    locator="Nowhere",
    runs=RUNS,
    laptop=RUNS,
    table=by({names}, metrics=["test_accuracy"]),
    checks=[there_are_runs],{more}
)
'''


# Ten runs of two epochs, with a figure.
EXPERIMENT = own_experiment(
    'train_size=64, test_size=50, batch_size=32, epochs=2, corruption="random_labels"',
    "corruption_level=(0.2, 0.4, 0.6, 0.8, 1.0), seed=range(2)",
    "corruption_level",
    more="\n    figure=lambda study: Figure(),",
)
