"""What whole commands cost, from their start to their end: short ones, a first and a second start, grids.

    pip install -e '.[benchmark]'
    TFDS_DATA_DIR=… python benchmarks/commands.py       # an hour on two cores; benchmarks/results/commands.*
    python benchmarks/commands.py short                 # one part alone: short, starts, fig1b, beside; the others stay

A grid is trained on one core and on all of them, by the command line as a user has it. Beside two of them, six MLPs for
an epoch of all of CIFAR-10 and four small Inceptions for a hundred steps, stands the loop of PyTorch that one would
write for it (pytorch_loop.py): it measures the same, on all cores, one run after the other.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import parts

CORES = sorted(os.sched_getaffinity(0))
RETHINK = [sys.executable, "-m", "rethink_gen"]

LOOP = [sys.executable, str(Path(__file__).with_name("pytorch_loop.py"))]

# The grids that the loop of PyTorch trains, too: six runs of an epoch of all of CIFAR-10, and four of a hundred steps.
OWN = """
from rethink_gen import Experiment, Run, grid

RUNS = {runs}
EXPERIMENT = Experiment(
    claim="none", locator="none", runs=RUNS, laptop=RUNS,
    table=lambda study: study.runs[["corruption_level", "seed", "train_accuracy", "test_accuracy"]],
)
"""
MLPS = """grid(
    Run(model="mlp_1x512", corruption="random_labels", learning_rate=0.01, epochs=1),
    corruption_level=(0.2, 0.6, 1.0), seed=(0, 1),
)"""
INCEPTIONS = """grid(
    Run(
        model="small_inception", corruption="random_labels", learning_rate=0.01, epochs=1,
        train_size=12_800, test_size=1000,
    ),
    corruption_level=(0.2, 1.0), seed=(0, 1),
)"""

# Until the network sees its first images, to be evaluated as it was initialized, or until it has taken its first step.
FIRST = """
import os, sys
from rethink_gen.study import running
from rethink_gen.training import measurement
from rethink_gen.experiment import Run

what, results = sys.argv[1:]
if what == "evaluation":
    measurement.measure = lambda *arguments, **options: os._exit(0)

def report(now):
    if now.step:
        os._exit(0)

run = Run(model="small_inception", train_size=128, test_size=128, batch_size=32, epochs=1)
running.train(run, results=results, report=report)
"""


def measured(what: str, command: list[str], cores: list[int] = CORES, **environment: str) -> dict[str, Any]:
    """Seconds, seconds of all processors, and the memory of the largest process."""
    print(f"{what} …", file=sys.stderr, flush=True)
    unset = {name: value for name, value in os.environ.items() if name != "NPROC"}
    start = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**unset, **environment},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, said.decode()
    row = {"what": what, "cores": len(cores), "seconds": time.monotonic() - start}
    return row | {"cpu_seconds": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}


def grid(what: str, words: list[str], folder: str) -> list[dict[str, Any]]:
    """A grid on one core and on all."""
    command = lambda cores: [*RETHINK, "run", *words, "--results", f"{folder}/{len(cores)} cores {what}"]
    return [measured(what, command(cores), cores) for cores in (CORES[:1], CORES)]


def short(folder: str) -> list[dict[str, Any]]:
    return [
        measured("--help", [*RETHINK, "--help"]),
        measured("list", [*RETHINK, "list"]),
        measured("table table1", [*RETHINK, "table", "table1"]),
        measured("CIFAR-10 decoded", [*RETHINK, "data", "verify", "cifar10"], RETHINK_GEN_CACHE=f"{folder}/none"),
    ]


def starts(folder: str) -> list[dict[str, Any]]:
    """With a cache that has the data, then the compiled programs, too."""
    environment = {"RETHINK_GEN_CACHE": f"{folder}/cache"}
    subprocess.run([*RETHINK, "data", "prepare", "cifar10"], env={**os.environ, **environment}, check=True)
    rows = []
    for number, end in (("first", "step"), ("second", "evaluation"), ("second", "step")):
        command = [sys.executable, "-c", FIRST, end, f"{folder}/{number} {end}"]
        rows.append(measured(f"small Inception, {number} start to first {end}", command, **environment))
    return rows


def fig1b(folder: str) -> list[dict[str, Any]]:
    return [
        *grid("fig1b, laptop, MLP 1×512, 6 runs", ["fig1b", "--only", "model=mlp_1x512"], folder),
        *grid("fig1b, laptop, AlexNet, 6 runs", ["fig1b", "--only", "model=small_alexnet"], folder),
    ]


def beside_pytorch(folder: str) -> list[dict[str, Any]]:
    own = Path(folder) / "own"
    own.mkdir()
    (own / "mlps.py").write_text(OWN.format(runs=MLPS))
    (own / "inceptions.py").write_text(OWN.format(runs=INCEPTIONS))
    inceptions = [*RETHINK, "run", "inceptions", "--experiments", str(own), "--results", f"{folder}/inceptions"]
    options = ["--levels", "0.2", "1.0", "--train-size", "12800", "--test-size", "1000"]
    return [
        *grid("MLP 1×512, 6 runs of all of CIFAR-10", ["mlps", "--experiments", str(own)], folder),
        measured("the same in PyTorch", [*LOOP, "mlp_1x512"]),
        measured("small Inception, 4 runs of 100 steps", inceptions),
        measured("the same in PyTorch", [*LOOP, "small_inception", *options]),
    ]


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    lines = []
    for made_by, rows in (part.values() for part in found.values()):
        lines += ["| command | cores | seconds | CPU seconds | MB, largest process |", "|---|--:|--:|--:|--:|"]
        for row in rows:
            numbers = f"{row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['mb']:,.0f}"
            lines.append(f"| {row['what']} | {row['cores']} | {numbers} |")
        lines += ["", made_by, ""]
    return "\n".join(lines)


def in_folder(part: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return part(folder)


PARTS = {"short": short, "starts": starts, "fig1b": fig1b, "beside": beside_pytorch}

if __name__ == "__main__":
    parts.measure(__doc__, "commands", {name: partial(in_folder, part) for name, part in PARTS.items()}, page)
