"""Evaluates the checks of an experiment: the sentences of its claim, each compared with the results."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from rethink_gen import papers
from rethink_gen.experiment import Check, CheckFunction, select

SMOKE = "smoke scale: no verdict"
_NAN = re.compile(r"\bnan\b")


def evaluate(check: CheckFunction, study: Any) -> Check:
    """The verdict of one check on a study; not known if results are missing, at smoke scale, or if the check fails."""
    needed = _study_of(check, study)
    settings = {run.setting for run in needed.experiment.runs}
    there = {result.setting for result in needed.results}
    if not study.experiment.has_verdict:
        return Check(_statement(check), None, SMOKE)
    if not settings:
        return Check(_statement(check), None, f"needs runs that the {study.experiment.scale} scale does not have")
    if not there:
        return Check(_statement(check), None, "no results yet")
    if there < settings:
        return Check(_statement(check), None, f"{len(there)} of {len(settings)} settings have results")
    try:
        holds, evidence = check(needed)
        if _NAN.search(str(evidence)):  # a comparison with it is false, and says nothing
            return Check(_statement(check), None, "a number that it compares has no value in these results")
        return Check(_statement(check), None if holds is None else bool(holds), str(evidence))
    except (Exception, SystemExit) as error:  # a mistake in one check does not end the table
        first = (str(error).splitlines() or [""])[0]
        return Check(_statement(check), None, f"the check failed: {type(error).__name__}: {first}")


def _statement(check: CheckFunction) -> str:
    """The sentence that a check checks: the first paragraph of its docstring, or its name where it has none."""
    name = getattr(check, "__name__", "check").replace("_", " ").capitalize()
    text = " ".join((check.__doc__ or f"{name}.").strip().partition("\n\n")[0].split())
    for field, value in _needs(check).items():
        text = text.replace(f"{{{field}}}", papers.label(value))
    return text


def _study_of(check: CheckFunction, study: Any) -> Any:
    """The study that a check sees: that of the runs which it needs."""
    wanted = _needs(check)
    if not wanted:
        return study
    experiment = study.experiment
    runs = select(experiment.runs, wanted)
    settings = {run.setting for run in runs}
    results = tuple(result for result in study.results if result.setting in settings)
    needed = replace(study, experiment=replace(experiment, runs=runs), results=results)
    ids = {result.id for result in results}
    vars(needed)["curves"] = study.curves[study.curves["run"].isin(ids)]  # which it would otherwise read again
    return needed


def _needs(check: CheckFunction) -> dict[str, object]:
    return getattr(check, "needs", {})
