"""Understanding deep learning requires rethinking generalization: every experiment of the paper, run by name.

    import rethink_gen as rg
    rg.run("quickstart")    # trains what is missing; a Study: table, figure, checks
    rg.load("table1")       # the results that are there

Importing this loads neither jax nor pandas.
"""

from rethink_gen.experiment import Check, Experiment, ExpressivityRun, KernelRun, LeastSquaresRun, Run, grid
from rethink_gen.suite import Study, load, run, train

__all__ = [
    "Check",
    "Experiment",
    "ExpressivityRun",
    "KernelRun",
    "LeastSquaresRun",
    "Run",
    "Study",
    "grid",
    "load",
    "run",
    "train",
]
__version__ = "0.1.0"
