"""Results of a randomization test, written down: what counts is given, the rest is plain."""

from dataclasses import replace

from rethink_gen.results.result import Result
from rethink_gen.runs import Run, grid

BASE = Run(dataset="digits", model="mlp_1x512", batch_size=32, epochs=100, schedule="constant")
RUNS = (BASE, *grid(replace(BASE, corruption="random_labels"), corruption_level=(0.5, 1.0)))
OTHERS = grid(BASE, corruption=("shuffled_pixels", "gaussian"))


def result(
    run, accuracy=(0.1, 1.0), test=0.9, losses=None, status="finished", classes=10, parameters=1000, examples=200
):
    """A result with a training accuracy for each epoch."""
    n = len(accuracy)
    losses = losses or [2.3 * (1 - each) for each in accuracy]
    curves = {"epoch": list(range(n)), "step": [10 * i for i in range(n)], "train_loss": losses}
    curves |= {"train_accuracy": list(accuracy), "test_accuracy": [0.1] * (n - 1) + [test], "test_loss": [2.0] * n}
    about = {"device": "cpu", "num_train": examples, "num_test": 100, "seconds_train": 1.0, "seconds_compile": 0.0}
    return Result(run, status, curves, about | {"num_classes": classes, "num_params": parameters})


def fitted(run, epochs, **others):
    return result(run, (*[0.1] * epochs, 1.0), **others)
