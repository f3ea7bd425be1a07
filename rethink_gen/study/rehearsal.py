"""Tries the table and the figure of an experiment on made-up results, so that a mistake is found before training."""

from __future__ import annotations

from dataclasses import replace

from rethink_gen.errors import UnknownName, UsageError
from rethink_gen.results.result import METRICS, TOP5, VALIDATION, Curves, Result
from rethink_gen.runs import CORRECT, EXAMPLES, Run
from rethink_gen.study.studies import Study

MOST_RUNS = 200  # that are made up
# What a mistake in the code raises whatever the numbers are; others may be due to the made-up numbers.
MISTAKES = (NameError, AttributeError, ImportError, TypeError, KeyError, UnknownName, SystemExit)


def rehearse(planned: Study) -> None:
    """Calls the table and the figure of an experiment of training runs.

    Raises:
      UsageError: one of them fails by a mistake in the code; the line names the experiment and the line of its file.
    """
    experiment = planned.experiment
    runs = tuple(run for run in experiment.runs[:MOST_RUNS] if isinstance(run, Run))
    if len(runs) < len(experiment.runs[:MOST_RUNS]):
        return  # what is solved has metrics of its own
    results = tuple(_made_up(run) for run in runs)
    study = replace(planned, experiment=replace(experiment, runs=runs), results=results, damaged=(), stale=())
    for part in (study.table, study.figure):
        try:
            part()
        except UsageError as error:
            if isinstance(error.__cause__ or error, MISTAKES):
                raise


def _of_records(epochs: int) -> Curves:
    """What follows from records of two examples, the second with a wrong label: at the start and at the last epoch."""
    import numpy as np

    from rethink_gen.results import scores
    from rethink_gen.results.records import Records

    labels, rows = np.arange(2), np.array([[1.0, 1.0], [0.5, 0.7]])
    predictions = np.array([[0, 0], [0, 1]])
    return scores.curves(Records(np.array([0, epochs]), labels, np.zeros(2, int), predictions, rows, -rows, rows))


def _made_up(run: Run) -> Result:
    """A result of two epochs, in which a run fits its training set; of single examples, it says half to be right."""
    import numpy as np

    from rethink_gen.results.records import to_text

    curves: Curves = {name: [0.5, 1.0] for name in (*METRICS, *TOP5[:2], *VALIDATION)}
    curves |= {"epoch": [0, run.epochs], "step": [0, 10 * run.epochs]}
    curves |= {text: [None, 1.0] for text in run.measures}
    if EXAMPLES in run.record:
        curves |= _of_records(run.epochs)
    about = {"device": "made up", "num_train": 100, "num_test": 100, "seconds_train": 1.0, "seconds_compile": 1.0}
    half = {split: to_text(np.arange(100) % 2 > 0) for split in ("train", "test")} if CORRECT in run.record else {}
    return Result(run, "finished", curves, about, correct=half)
