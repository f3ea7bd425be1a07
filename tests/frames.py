"""Synthetic results for the tests of statistics, tables and figures: what counts is written down, the rest is plain."""

from dataclasses import replace

from rethink_gen.results.frames import frame
from rethink_gen.results.store import Result
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
