"""What whole commands cost, from their start to their end: short ones, a first and a second start, grids.

    pip install -e '.[benchmark]'
    TFDS_DATA_DIR=… python benchmarks/commands.py       # twenty minutes on two cores; benchmarks/results/commands.*

A grid is trained on one core and on all of them, by the command line as a user has it. Beside one grid, all of CIFAR-10
under six settings for an epoch, stands the loop of PyTorch that one would write for it: it measures the same, on all
cores, one run after the other.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CORES = sorted(os.sched_getaffinity(0))
RETHINK = [sys.executable, "-m", "rethink_gen"]

GRID = """
from rethink_gen.experiment import Experiment, Run, grid

RUNS = grid(
    Run(model="mlp_1x512", corruption="random_labels", learning_rate=0.01, epochs=1),
    corruption_level=(0.2, 0.6, 1.0), seed=(0, 1),
)
EXPERIMENT = Experiment(
    claim="none", locator="none", runs=RUNS, laptop=RUNS, checks=lambda frame: [],
    table=lambda frame: frame[frame["last"]][["corruption_level", "seed", "train_accuracy", "test_accuracy"]],
)
"""

# The same six runs. Evaluated as ours are: both splits, before and after.
PYTORCH = """
import numpy as np, torch
from torch import nn
from rethink_gen import datasets

data = datasets.load("cifar10")
splits = [torch.from_numpy(np.array(split.images[:, 2:30, 2:30])) for split in (data.train, data.test)]
labels = [torch.from_numpy(np.array(split.labels)).long() for split in (data.train, data.test)]

def inputs(images):
    x = images.reshape(len(images), -1).float() / 255
    return (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True).clamp(min=2352**-0.5)

for level in (0.2, 0.6, 1.0):
    for seed in (0, 1):
        torch.manual_seed(seed)
        drawn = torch.where(torch.rand(50_000) < level, torch.randint(10, (50_000,)), labels[0])
        model = nn.Sequential(nn.Linear(2352, 512), nn.ReLU(), nn.Linear(512, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        @torch.no_grad()
        def measure():
            return [
                sum((model(inputs(x)).argmax(1) == y).sum().item() for x, y in zip(a.split(1000), b.split(1000)))
                for a, b in zip(splits, (drawn, labels[1]))
            ]

        measure()
        for index in torch.randperm(50_000)[: 390 * 128].split(128):
            loss = nn.functional.cross_entropy(model(inputs(splits[0][index])), drawn[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(level, seed, measure())
"""

# Until the network sees its first images, to be evaluated as it was initialized, or until it has taken its first step.
FIRST = """
import os, sys
from rethink_gen import programs, suite
from rethink_gen.experiment import Run

what, results = sys.argv[1:]
if what == "evaluation":
    programs.measure = lambda *arguments, **options: os._exit(0)

def report(now):
    if now.step:
        os._exit(0)

run = Run(model="small_inception", train_size=128, test_size=128, batch_size=32, epochs=1)
suite.train(run, results=results, report=report)
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


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "own").mkdir()
        (Path(folder) / "own" / "grid.py").write_text(GRID)
        first = [sys.executable, "-c", FIRST]
        rows = [
            measured("--help", [*RETHINK, "--help"]),
            measured("list", [*RETHINK, "list"]),
            measured("table table1", [*RETHINK, "table", "table1"]),
            measured("CIFAR-10 decoded", [*RETHINK, "data", "verify", "cifar10"], RETHINK_GEN_CACHE=f"{folder}/none"),
        ]
        cache = Path(folder) / "cache"
        subprocess.run(
            [*RETHINK, "data", "prepare", "cifar10"], env={**os.environ, "RETHINK_GEN_CACHE": str(cache)}, check=True
        )
        for number, end in (("first", "step"), ("second", "evaluation"), ("second", "step")):
            what = f"small Inception, {number} start to first {end}"
            rows.append(measured(what, [*first, end, f"{folder}/{number} {end}"], RETHINK_GEN_CACHE=str(cache)))
        rows += grid("fig1b, laptop, MLP 1×512, 6 runs", ["fig1b", "--only", "model=mlp_1x512"], folder)
        rows += grid("fig1b, laptop, AlexNet, 6 runs", ["fig1b", "--only", "model=small_alexnet"], folder)
        rows += grid("MLP 1×512, 6 runs of all of CIFAR-10", ["grid", "--experiments", f"{folder}/own"], folder)
        rows.append(measured("the same in PyTorch", [sys.executable, "-c", PYTORCH]))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| command | cores | seconds | CPU seconds | MB, largest process |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        numbers = f"{row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['mb']:,.0f}"
        lines.append(f"| {row['what']} | {row['cores']} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    busy = os.getloadavg()[0]
    rows = measure()
    about = f"{len(CORES)} cores, Python {platform.python_version()}, {busy:.1f} other processes at work at the start"
    (RESULTS / "commands.json").write_text(json.dumps({"made_by": about, "rows": rows}, indent=1) + "\n")
    (RESULTS / "commands.md").write_text(f"{table(rows)}\n{about}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
