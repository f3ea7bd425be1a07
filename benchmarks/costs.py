"""What the whole paper costs with 20 seeds, in hours on 1, 8 and 64 devices, from what was measured: docs/costs.md.

    python benchmarks/costs.py

Reads the committed results (seconds of training, by device) and benchmarks/results/throughput*.json (images per
second), and nothing else: a result or a benchmark of another device that is added there has its row once this is run.
"""

import heapq
import json
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rethink_gen import experiment
from rethink_gen.results import store
from rethink_gen.runs import AnyRun, Run

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "costs.md"
SEEDS, DEVICES = 20, (1, 8, 64)
IMAGES = {
    "cifar10": (50_000, 10_000),
    "imagenet2012": (1_281_167, 50_000),
    "digits": (1500, 297),
}  # to train on, and to test on
EVALUATED = 50_000  # training images at most, see `measurement.STREAMED_EVALUATION`
EVALUATION = 1 / 3  # of what a step costs per image: no backward pass, which costs twice the forward pass

Rates = dict[Any, tuple[float, str]]  # program → seconds (per image and epoch of a training), and where they are from


def whole_paper() -> list[AnyRun]:
    """The runs of the paper's figures, tables, sections and theorem at its scale, each once, under one seed."""
    names = [name for name in experiment.of_paper("zhang2017") if name.startswith(("fig", "table", "sec", "thm"))]
    found = [run for name in names for run in experiment.find(name).at("paper").runs]
    return list({run.setting: replace(run, seed=0) for run in found}.values())


def program(run: AnyRun) -> Any:
    """What the time of a run depends on: of a training not on labels, seeds, regularizers and the number of epochs."""
    if isinstance(run, Run):
        return run.model, run.dataset, run.batch_size, run.precision
    return replace(run.recipe, corruption="true_labels")


def images(run: Run) -> float:
    """Images per epoch, as much work as so many to train on: those, and both splits evaluated."""
    train, test = IMAGES.get(run.dataset, IMAGES["cifar10"])
    train, test = min(run.train_size or train, train), min(run.test_size or test, test)
    return train + EVALUATION * (min(train, EVALUATED) + test)


def work(run: Run, epochs: float) -> float:
    """Images of a training of so many epochs; its pre-training, if it has one, is evaluated at both ends alone."""
    before = run.pretraining
    return images(run) * epochs + (before.epochs * (before.train_size or 0) if before else 0)


def from_results() -> dict[str, Rates]:
    """Device → what its committed results took; of a program that was timed on several sizes, on the largest."""
    timed: dict[tuple[str, Any], dict[float, list[float]]] = {}
    for result in (result for folder in sorted((ROOT / "results").glob("*/*")) for result in store.load(folder)):
        run, about = result.run, result.provenance
        amount = work(run, result.curves["epoch"][-1] or 0) if isinstance(run, Run) else 1.0
        if amount and run.dataset != "generated_imagenet":
            sizes = timed.setdefault((about["device"], program(run)), {})
            size = images(run) if isinstance(run, Run) else 1.0
            sizes.setdefault(size, []).append(about["seconds_train"] / amount)
    found: dict[str, Rates] = {}
    for (device, what), sizes in timed.items():
        source = f"results of {max(sizes):,.0f} images an epoch" if isinstance(what, tuple) else "results"
        found.setdefault(device, {})[what] = statistics.median(sizes[max(sizes)]), source
    return found


def from_benchmarks() -> dict[str, Rates]:
    """Device → seconds per image trained on, by the benchmark of throughput: batches of 128, CIFAR-10's size."""
    found: dict[str, Rates] = {}
    for path in sorted((ROOT / "benchmarks" / "results").glob("throughput*.json")):
        content = json.loads(path.read_text())
        for row in content["rows"]:
            rate = 1 / statistics.median(row["ours"]), path.name
            found.setdefault(content["made_by"]["device"], {})[row["model"], "cifar10", 128, "float32"] = rate
    return found


def rates() -> dict[str, Rates]:
    """Device → its programs. The benchmark comes first: results on few images are mostly evaluation."""
    measured, steps = from_results(), from_benchmarks()
    return {device: {**measured.get(device, {}), **steps.get(device, {})} for device in sorted({*measured, *steps})}


def seconds(run: AnyRun, known: Rates) -> float | None:
    """What a run takes, to its last epoch; None if nothing like it was timed."""
    if program(run) not in known:
        return None
    each, _ = known[program(run)]
    return each * work(run, run.epochs) if isinstance(run, Run) else each


def makespan(jobs: Iterable[float], devices: int) -> float:
    """Seconds until all jobs are done, the longest begun first, each on one device."""
    free = [0.0] * devices
    for job in sorted(jobs, reverse=True):
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def said(what: Any) -> str:
    """A program in words."""
    return f"{what[0]} on {what[1]}" if isinstance(what, tuple) else f"{what.subject} on {what.dataset}"


def page() -> str:
    runs = whole_paper()
    head = [
        f"{SEEDS} seeds, hours on {DEVICES[0]}",
        *(f"on {count}" for count in DEVICES[1:]),
        "settings timed",
        "not timed, and so not counted",
    ]
    lines = [f"| device | {' | '.join(head)} |", "|---|--:|--:|--:|--:|---|"]
    sources = []
    for device, known in rates().items():
        times = [seconds(run, known) for run in runs]
        jobs = [time for time in times if time is not None for _ in range(SEEDS)]
        lacking = Counter(said(program(run)) for run, time in zip(runs, times, strict=True) if time is None)
        hours = [f"{makespan(jobs, count) / 3600:,.1f}" for count in DEVICES]
        gaps = ", ".join(f"{what} ({count})" for what, count in lacking.items())
        lines.append(f"| {device} | {' | '.join(hours)} | {len(runs) - lacking.total()} of {len(runs)} | {gaps} |")
        used = {program(run) for run in runs} & known.keys()
        sources += [f"* {device}, {said(what)}: {known[what][1]}" for what in known if what in used]
    return f"""# What the whole paper costs

All figures, tables, sections and the theorem at the paper scale: {len(runs)} settings with {SEEDS} seeds each.
`python benchmarks/costs.py` computes the hours from committed results and benchmarks. If a device has no timing of a
recipe, the recipe is named and not counted, and the hours are a lower bound.

{chr(10).join(lines)}

Assumptions:

* A run takes all its epochs: none diverges, none stops early.
* Each run has one device, and the longest runs start first.
* The time per image depends only on the network, the image size and the batch size.
* If only training was timed, evaluation of an image costs a third of its training.
* Compiling, reading data and handing out tasks take no time. [Many machines](clusters.md) says what a task costs.

Sources of the numbers:

{chr(10).join(dict.fromkeys(sources))}
"""


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.read_text())
