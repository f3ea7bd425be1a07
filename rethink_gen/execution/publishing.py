"""Trains runs in this process and publishes each result as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen.errors import StorageError
from rethink_gen.execution import progress
from rethink_gen.execution.requests import check_data, check_writable
from rethink_gen.results import failing, store
from rethink_gen.results.failing import Failure
from rethink_gen.results.result import Result
from rethink_gen.runs import AnyRun

if TYPE_CHECKING:
    from rethink_gen.training.progress import Progress

    Report = Callable[[Progress], None]
    Execute = Callable[..., Iterable[Result | Failure]]
    Folder = str | Path


def finish(
    runs: Iterable[AnyRun],
    folder: Path,
    report: Report | None,
    *,
    force: bool = False,
    keep_weights: bool = False,
    execute: Execute | None = None,
    fits: Callable[[AnyRun], bool] | None = None,
    others: bool | None = None,
) -> list[Failure]:
    """Trains runs and publishes each result as it ends; the runs that failed.

    Args:
      fits, others: as in `scheduler.execute`.
    """
    runs = list(runs)
    if not runs:
        return []
    check_data(runs)
    check_writable(folder)
    failures: list[Failure] = []
    train_all: Execute = execute or import_scheduler().execute
    options: dict[str, Any] = {"keep_weights": True} if keep_weights else {}
    options |= {"fits": fits} if fits else {}
    options |= {"others": others} if others is not None else {}
    show = report or progress.default()

    def tell(now: Progress) -> None:
        show(now._replace(failed_runs=len(failures)))

    for outcome in train_all(runs, work=folder, force=force, report=tell, **options):
        if not folder.is_dir():
            raise StorageError(f"{folder} has vanished; bring it back and run the same command again")
        if isinstance(outcome, Result):
            path = store.save(outcome, folder, replace=force or keep_weights)
            if path != store.result_file(folder, outcome.run):
                failures.append(Failure(outcome.run, f"not the result that another process published; see {path}"))
        else:
            failing.save(outcome, folder)
            failures.append(outcome)
    return failures


def import_scheduler() -> Any:
    """The scheduler, imported late: it loads jax, which reads its environment once."""
    from rethink_gen.execution import machine

    machine.respect_quota()
    machine.check_devices()
    from rethink_gen.execution import scheduler

    return scheduler
