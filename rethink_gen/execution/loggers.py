"""Log metrics to TensorBoard or Weights & Biases while runs train. Both are optional extras."""

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


# Runs whose logs are open at once; more than train side by side. A run that stops early, unseen, leaves its log open.
_OPEN = 256
Log = Callable[[int, dict[str, float]], None]  # (step, metrics); empty metrics at the end of a run


@contextmanager
def tracker(name: str, folder: Path) -> Iterator[Callable[[Progress], None]]:
    """Yields a function that logs the metrics of each epoch, by run id and step.

    Args:
      name: tensorboard or wandb.
      folder: for the files of the logger.

    Raises:
      UsageError: the logger is unknown or not installed.
    """
    if name not in _TRACKERS:
        raise unknown("log", name, _TRACKERS)
    package, begin = _TRACKERS[name]
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"--log {name} needs {package}: pip install {package}")
    reached: dict[AnyRun, int] = {}  # the last epoch that was logged
    opened: dict[AnyRun, Log] = {}  # in the order of their last rows

    def report(now: Progress) -> None:
        metrics = {key: value for key, value in now.metrics.items() if value is not None}
        if not metrics or now.stage or now.epoch <= reached.get(now.run, -1):
            return
        reached[now.run] = now.epoch
        opened[now.run] = log = opened.pop(now.run, None) or begin(now.run, folder)
        log(int(metrics.pop("step", now.step)), metrics)
        ended = [now.run] if now.step == now.steps else []
        for run in ended + [run for run in opened if run not in ended][: max(0, len(opened) - _OPEN)]:
            opened.pop(run)(0, {})

    try:
        yield report
    finally:
        for log in opened.values():
            log(0, {})


def _tensorboard(run: AnyRun, folder: Path) -> Log:
    """Logs to an event file in folder/<run id>. It does not need TensorFlow."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / run.id))

    def log(step: int, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            writer.add_scalar(key, value, step)
        writer.flush() if metrics else writer.close()

    return log


def _weights_and_biases(run: AnyRun, folder: Path) -> Log:
    """Logs to a run with this id in the project rethink-gen; to folder/wandb if WANDB_MODE=offline.

    Runs that train side by side have sessions side by side.
    """
    wandb: Any = importlib.import_module("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    fields = dataclasses.asdict(run)
    session = wandb.init(
        project="rethink-gen", id=run.id, resume="allow", reinit="create_new", dir=folder, config=fields
    )

    def log(step: int, metrics: dict[str, float]) -> None:
        session.log(metrics, step=step) if metrics else session.finish()

    return log


_TRACKERS = {"tensorboard": ("tensorboardX", _tensorboard), "wandb": ("wandb", _weights_and_biases)}
