"""Memorization and generalization: experiments by name with verdicts, and the same tools for your own network and data.

    import rethink_gen as rg
    rg.run("quickstart")    # trains what is missing; a Study: table, figure, checks
    rg.load("table1")       # the results that are there

    data = rg.Dataset.from_arrays("scans", train=(x, y), test=(x_test, y_test))
    study = rg.run(rg.grid(rg.Run(dataset=data, model="mlp(hidden=64)"), seed=range(3)))
    study.runs, study.curves, study.plot(x="epoch", y="test_accuracy")

Importing this loads neither jax nor pandas.
"""

from typing import TYPE_CHECKING, Any

from rethink_gen import _system  # noqa: F401
from rethink_gen.experiment import Check, Experiment, for_each, needs
from rethink_gen.plugins import load as load_plugin
from rethink_gen.registry import register
from rethink_gen.runs import (
    ExpressivityRun,
    IdentityRun,
    KernelRun,
    LearnerRun,
    LeastSquaresRun,
    PacBayesRun,
    RidgeRun,
    Run,
    SearchRun,
    TeacherRun,
    grid,
)
from rethink_gen.study.randomization_test import randomization_test
from rethink_gen.study.ranking import scores
from rethink_gen.study.running import run, train
from rethink_gen.study.studies import Study, load
from rethink_gen.version import __version__

if TYPE_CHECKING:
    from rethink_gen.data.dataset import Dataset
    from rethink_gen.data.pipeline import corrupted as corrupt

__all__ = [
    "Check",
    "Dataset",
    "Experiment",
    "ExpressivityRun",
    "IdentityRun",
    "KernelRun",
    "LearnerRun",
    "LeastSquaresRun",
    "PacBayesRun",
    "RidgeRun",
    "Run",
    "SearchRun",
    "Study",
    "TeacherRun",
    "__version__",
    "corrupt",
    "for_each",
    "grid",
    "load",
    "load_plugin",
    "needs",
    "randomization_test",
    "register",
    "run",
    "scores",
    "train",
]


def __getattr__(name: str) -> Any:
    """What needs NumPy or jax is imported when it is first used."""
    if name == "Dataset":
        from rethink_gen.data.dataset import Dataset

        return Dataset
    if name == "corrupt":
        from rethink_gen.data.pipeline import corrupted

        return corrupted
    raise AttributeError(f"module 'rethink_gen' has no attribute {name!r}")
