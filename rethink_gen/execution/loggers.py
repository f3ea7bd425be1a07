"""Curves while they grow, in TensorBoard or in Weights & Biases: optional extras, on which nothing else depends."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen.errors import UsageError, unknown

if TYPE_CHECKING:
    from rethink_gen.runs import AnyRun
    from rethink_gen.training.progress import Progress


Log = Callable[[int, dict[str, float]], None]  # of the metrics at a step; without metrics at the end of the run


@contextmanager
def tracker(name: str, folder: Path) -> Iterator[Callable[[Progress], None]]:
    """Yields the function that logs each epoch's metrics as it ends, under the run's id and the step.

    Args:
      name: tensorboard or wandb.
      folder: where the files of either go.

    Raises:
      UsageError: there is no such tracker, or it is not installed.
    """
    if name not in _TRACKERS:
        raise unknown("log", name, _TRACKERS)
    package, begin = _TRACKERS[name]
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"--log {name} needs {package}: pip install 'rethink-gen[{name}]'")
    reached: tuple[AnyRun, int] | None = None

    def log(step, metrics):
        return None

    def report(now: Progress) -> None:
        nonlocal reached, log
        metrics = {key: value for key, value in now.metrics.items() if value is not None}
        if not metrics or reached == (now.run, now.epoch):
            return
        if reached is None or reached[0] != now.run:
            log(0, {})
            log = begin(now.run, folder)
        reached = (now.run, now.epoch)
        log(int(metrics.pop("step", now.step)), metrics)

    try:
        yield report
    finally:
        log(0, {})


def _tensorboard(run: AnyRun, folder: Path) -> Log:
    """An event file in folder/<run id>, written without TensorFlow."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / run.id))

    def log(step: int, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            writer.add_scalar(key, value, step)
        writer.flush() if metrics else writer.close()

    return log


def _weights_and_biases(run: AnyRun, folder: Path) -> Log:
    """A run of the project rethink-gen with this id, in folder/wandb if WANDB_MODE=offline."""
    wandb: Any = importlib.import_module("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    here = wandb.init(project="rethink-gen", id=run.id, resume="allow", dir=folder, config=dataclasses.asdict(run))
    return lambda step, metrics: here.log(metrics, step=step) if metrics else here.finish()


_TRACKERS = {"tensorboard": ("tensorboardX", _tensorboard), "wandb": ("wandb", _weights_and_biases)}
