"""All experiments as one queue: what an hour of a machine is best spent on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen import experiment
from rethink_gen.errors import DataError, TimeIsUp
from rethink_gen.execution import processes
from rethink_gen.results.failing import Failure
from rethink_gen.runs import AnyRun
from rethink_gen.study import running
from rethink_gen.study.studies import Folder, Study, renew

if TYPE_CHECKING:
    from rethink_gen.execution.time_limit import TimeLimit
    from rethink_gen.study.running import Report

Item = tuple[Study, AnyRun]


def queue(planned: Sequence[Study], seconds: Callable[[Study, AnyRun], float | None]) -> list[Item]:
    """The missing runs of many experiments, in the order in which they are worth most.

    First the settings that have no result, then those that have one seed, and so on; in each group the shortest first,
    and last those of unknown length.
    """
    items: list[tuple[int, float, int, Item]] = []
    for place, study in enumerate(planned):
        seeds = Counter(result.setting for result in study.results)
        for run in study.missing:
            takes = seconds(study, run)
            items.append((seeds[run.setting], float("inf") if takes is None else takes, place, (study, run)))
            seeds[run.setting] += 1
    return [item for *_, item in sorted(items, key=lambda each: each[:3])]


def run(
    scale: str,
    *,
    results: Folder,
    experiments: Path | None = None,
    limit: TimeLimit | None = None,
    report: Report | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[Study, list[Failure]]]:
    """Works through the queue; yields the study of an experiment and what failed, each time some of its runs ended.

    Args:
      say: is told why an experiment is left out, such as for want of its data, and what comes next.

    Raises:
      TimeIsUp: runs are left that do not fit in the time.
    """
    left_out: set[str] = set()
    failed: set[AnyRun] = set()  # the next command tries them again

    def planned() -> list[Study]:
        names = [name for name in experiment.names(experiments) if name not in left_out]
        return [running.plan(name, scale=scale, results=results, experiments=experiments) for name in names]

    def seconds(study: Study, run: AnyRun) -> float | None:
        return limit and limit.seconds(run, study.folder, processes.count(study.experiment.runs))

    for name, items in groupby(queue(planned(), seconds), key=lambda item: item[0].experiment.name):
        (study, first), *rest = items
        if name in left_out:
            continue
        try:
            failures = running.work_on(study, [first, *(run for _, run in rest)], report=report, limit=limit)
        except DataError as error:
            say(f"{name} is left out: {error}")
            left_out.add(name)
            continue
        failed |= {failure.run for failure in failures}
        yield renew(study.experiment, results), failures
    if limit and (left := [item for item in queue(planned(), seconds) if item[1] not in failed]):
        study, _ = left[0]
        say(limit.remark([run for _, run in left], study.folder, processes.count(study.experiment.runs)))
        raise TimeIsUp
