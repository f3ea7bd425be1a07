"""Very many small networks in one command, beside a plain loop of PyTorch: what a run costs.

    pip install -e '.[benchmark]'
    TFDS_DATA_DIR=… python benchmarks/many_runs.py            # benchmarks/results/many_runs.*
    TORCH_PYTHON=… python benchmarks/many_runs.py             # where PyTorch is in another environment

MLPs 784-128-10, each with 20 % wrong labels and a random 70 % of 4,000 images of MNIST, for 310 steps of 128 images.
Ours is `rethink-gen run` on all cores, with a result file for each run. The loop (pytorch_many.py) is measured in one
process with all cores, and in one process for each core. All take TURNS, one after the other. A command is measured
with few and with many runs, so that the cost of a run is known without that of the start. `inside` says what a run of
ours spends its time on.
"""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("NPROC", "1")  # of `inside`, before jax is loaded; commands are measured without it

import numpy as np
import parts
from commands import CORES, RETHINK, measured

from rethink_gen.data import datasets, randomness
from rethink_gen.execution import machine

TURNS, REPEATS = 2, 15
LANES = (1, 4, 16)
TORCH = os.environ.get("TORCH_PYTHON", sys.executable)
LOOP = str(Path(__file__).with_name("pytorch_many.py"))
OWN = """
from rethink_gen import Experiment, Run, grid

RUN = Run(
    dataset="mnist", train_size=4000, test_size=1000, model="mlp(hidden=128)", order="subset", epochs=10,
    corruption="uniform_wrong", corruption_level=0.2, measurements=2, record="correct",
)
RUNS = grid(RUN, seed=range({runs}))
EXPERIMENT = Experiment(claim="none.", locator="none", runs=RUNS, laptop=RUNS)
"""
# Side → few and many runs. On a busy machine, threads of PyTorch wait for each other: a run takes many seconds.
OURS, ONE, EACH = "rethink-gen", "PyTorch, one process", "PyTorch, a process for each core"
SIDES = {OURS: (20, 120), ONE: (2, 6), EACH: (20, 120)}


def command(side: str, runs: int, folder: Path) -> list[str]:
    """The command that trains so many runs, with its files in a folder of its own."""
    if side == OURS:
        own = folder / "experiments" / "own"
        own.mkdir(parents=True)
        (own / "many.py").write_text(OWN.format(runs=runs))
        return [*RETHINK, "run", "many", "--experiments", str(own.parent), "--results", str(folder / "results")]
    mnist = datasets.load("mnist")
    arrays = {"x": mnist.train.images[:4000], "y": mnist.train.labels[:4000]}
    np.savez(folder / "mnist.npz", **arrays, xt=mnist.test.images[:1000], yt=mnist.test.labels[:1000])
    shares = 1 if side == ONE else len(CORES)
    ends = [runs * i // shares for i in range(shares + 1)]
    loops = [
        f"{TORCH} {LOOP} {folder / 'mnist.npz'} {first} {end} {len(CORES) // shares}"
        for first, end in itertools.pairwise(ends)
    ]
    return ["sh", "-c", " & ".join([*loops[1:], loops[0]]) + "; wait"]


def in_turns() -> list[dict[str, Any]]:
    """A row for each turn, side and number of runs."""
    rows = []
    for turn, size, side in itertools.product(range(TURNS), (0, 1), SIDES):
        runs = SIDES[side][size]
        with tempfile.TemporaryDirectory() as name:
            row = measured(side, command(side, runs, Path(name)))
            files = list(Path(name).rglob("*.json"))
            assert len(files) == runs, f"{side} left {len(files)} files"
        rows.append({**row, "runs": runs, "turn": turn, "load": os.getloadavg()[0]})
    return rows


def inside() -> list[dict[str, Any]]:
    """A row for each part of a run of ours: CPU milliseconds of a run on one core, alone or beside others."""
    machine.keep_memory()
    return [row for lanes in LANES for row in of_lanes(lanes)]


@randomness.pinned()
def of_lanes(number: int) -> list[dict[str, Any]]:
    """The same with so many runs side by side in one program."""
    import jax.numpy as jnp

    from rethink_gen.training import compilation, core, measurement, preparation
    from rethink_gen.training.program import Hparams

    scope: dict[str, Any] = {}
    exec(OWN.format(runs=number), scope)
    program, train, test, _, lanes, _ = preparation.prepare(scope["RUNS"], number)
    numbers = [jnp.float32(x) for x in (0.01, 0.95, 0.9, 0.0)]
    each = [Hparams(randomness.root_key(seed), *numbers) for seed in range(number)]
    hparams, images = lanes.stack(each), train.images
    state = lanes.stack([core.init(program, one, images) for one in each])
    draw, (steps, _) = compilation.jit(core.epoch_order, lanes), compilation.stepper(program, train, lanes)
    count, epochs, evaluations = len(train.labels[0] if number > 1 else train.labels) // program.batch_size, 10, 3
    order = draw(program, hparams, 0, count * program.batch_size, program.batch_size)

    def train_epoch() -> Any:
        nonlocal state
        state = steps(hparams, train, order, state, count)
        return state

    todo = {
        f"{epochs * count} steps": (train_epoch, epochs),
        f"{epochs} orders": (lambda: draw(program, hparams, 0, 4000, program.batch_size), epochs),
        f"{evaluations} evaluations of 5,000 images": (
            lambda: measurement.measure(program, state, train, test, lanes, step=0, epoch=0, each=True),
            evaluations,
        ),
        "the first weights": (lambda: [core.init(program, one, images) for one in each], 1),
    }
    return [
        {"what": what, "lanes": number, "cpu_ms": 1000 * times * cpu_seconds(function) / number}
        for what, (function, times) in todo.items()
    ]


def cpu_seconds(function: Callable[[], Any]) -> float:
    """The median of REPEATS calls, after one that compiles."""
    import jax

    taken = []
    for _ in range(1 + REPEATS):
        begun = time.process_time()
        jax.block_until_ready(function())
        taken.append(time.process_time() - begun)
    return median(taken[1:])


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    pages = {"in_turns": page_of_turns, "inside": page_of_parts}
    return "\n".join(pages[name](**part) for name, part in found.items())


def page_of_parts(made_by: str, rows: list[dict[str, Any]]) -> str:
    """A row for each part of a run, a column for each number of runs side by side."""
    lines = ["| part of a run, CPU ms | " + " | ".join(f"{lanes} side by side" for lanes in LANES) + " |"]
    lines.append("|---|" + "--:|" * len(LANES))
    for what in dict.fromkeys(row["what"] for row in rows):
        cells = (f"{row['cpu_ms']:.0f}" for row in rows if row["what"] == what)
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", made_by, ""])


def page_of_turns(made_by: str, rows: list[dict[str, Any]]) -> str:
    """A row for each side: what one more run takes."""

    def each(side: str, what: str) -> float:
        """Of a run: the median over turns of the difference between many and few."""
        taken = {(row["turn"], row["runs"]): row[what] for row in rows if row["what"] == side}
        few, many = SIDES[side]
        return median((taken[turn, many] - taken[turn, few]) / (many - few) for turn in range(TURNS))

    lines = [
        "| command | ms of a run | relative to ours | CPU ms of a run | relative to ours |",
        "|---|--:|--:|--:|--:|",
    ]
    for side in SIDES:
        taken = [each(side, what) for what in ("seconds", "cpu_seconds")]
        ratios = [mine / each(OURS, what) for mine, what in zip(taken, ("seconds", "cpu_seconds"), strict=True)]
        cells = [f"{1000 * mine:.0f} | {ratio:.2f}" for mine, ratio in zip(taken, ratios, strict=True)]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    loads = f"{min(row['load'] for row in rows):.1f} to {max(row['load'] for row in rows):.1f}"
    return "\n".join([*lines, "", f"{made_by} While it was measured, the load average was {loads}.", ""])


if __name__ == "__main__":
    parts.measure(__doc__, "many_runs", {"in_turns": in_turns, "inside": inside}, page)
