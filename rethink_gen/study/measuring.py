"""Measure networks that were trained before: those runs of a study that kept their weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from rethink_gen.errors import UsageError
from rethink_gen.execution import requests
from rethink_gen.results import frames, store
from rethink_gen.results.result import Result
from rethink_gen.runs import Run
from rethink_gen.study import trained
from rethink_gen.study.studies import Study

logger = logging.getLogger(__name__)


def spelled(measures: Iterable[str]) -> tuple[str, ...]:
    """Measures in their one spelling, as their columns are named.

    Raises:
      UsageError: there is no such measure, or it has no such option.
    """
    run = Run(measures=tuple(measures))
    requests.check_names([run])
    return run.measures


def measured(study: Study, measures: Iterable[str]) -> Study:
    """The runs of a study that kept their weights, with the value of each measure beside their other metrics.

    Nothing is written. A measure that does not go with a network has no value, nor has a run whose data are not here;
    a warning says why.

    Raises:
      UsageError: no such measure, or no run kept its weights.
    """
    texts = spelled(measures)
    kept = [result for result in study.results if store.weights_file(study.folder, result.run).is_file()]
    if not kept:
        raise UsageError(
            f"no run of {study.experiment.name} kept its weights; --force --keep-weights trains them again"
        )
    results = []
    for result in kept:
        whole = trained.read(store.result_file(study.folder, result.run))
        try:
            values = whole.measure(*texts)
        except UsageError as error:  # its data are streamed, or others than then
            logger.warning("%s: %s", whole.id, error)
            values = dict.fromkeys(texts)
        curves = frames.with_last(whole.curves, values)
        results.append(Result(whole.run, whole.status, curves, whole.provenance, correct=whole.correct))
    return replace(study, results=tuple(results))
