"""What very many runs cost: files on disk, plans, tasks on Ray.

    pip install -e '.[ray]'
    python benchmarks/scale.py                # all of it, a quarter of an hour on two cores; benchmarks/results/scale.*
    python benchmarks/scale.py ray            # one part alone: files, plan or ray; the others stay

`files`: the committed results of one experiment at smoke scale under other seeds, 100,000 valid files, and the verbs
that read them, each in a process of its own: first without the copy by columns that is kept in the user's cache, then
with it.
`ray`: runs that do next to nothing, on a cluster of one node here, beside the same runs without Ray.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import parts

from rethink_gen.results import store
from rethink_gen.runs import Run
from rethink_gen.study import running

ROOT = Path(__file__).parent.parent
EXPERIMENT, SCALE = "fig1b_convergence_slowdown", "smoke"
FILES, TASKS, SHARDS = 100_000, 1000, 64


def files(count: int) -> list[dict[str, Any]]:
    """Seconds and memory of the verbs that read a folder of so many results."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RETHINK_GEN_CACHE"] = str(Path(folder) / "cache")
        make(Path(folder) / "results" / EXPERIMENT / SCALE, count)
        where = ["--results", f"{folder}/results"]
        report = ["report", EXPERIMENT, "--scale", SCALE, "--output", f"{folder}/page.html", *where]
        return [
            measured("status, and the copy made", ["status", EXPERIMENT, *where]),
            measured("status", ["status", EXPERIMENT, *where]),
            measured("table", ["table", EXPERIMENT, "--scale", SCALE, *where]),
            measured("report", report),
        ]


def make(folder: Path, count: int) -> None:
    """So many valid results: committed ones under other seeds."""
    committed = sorted((ROOT / "results" / EXPERIMENT / SCALE).glob("*.json"))
    known = [(store.read(path).run, json.loads(path.read_bytes())) for path in committed]
    folder.mkdir(parents=True)
    for i in range(count):
        run, content = known[i % len(known)]
        run = replace(run, seed=i // len(known))
        content = {**content, "id": run.id, "run": {**content["run"], "seed": run.seed}}
        del content["sha256"]
        text = json.dumps({**content, "sha256": store._digest(content)})
        (folder / f"{run.id}.json").write_text(text)


def measured(what: str, words: list[str]) -> dict[str, Any]:
    """A command in a process of its own: seconds on the clock and of computing, and its peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "rethink_gen", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    row = {"what": what, "seconds": time.perf_counter() - started, "cpu_seconds": used.ru_utime + used.ru_stime}
    return row | {"mb": used.ru_maxrss / 1024, "exit_code": os.waitstatus_to_exitcode(status)}


def plan(count: int) -> list[dict[str, Any]]:
    """Seconds to plan so many runs, and to part them."""
    settings = len({run.setting for run in running.plan(EXPERIMENT, scale=SCALE).experiment.runs})
    with tempfile.TemporaryDirectory() as folder:
        planned, making = timed(
            lambda: running.plan(EXPERIMENT, scale=SCALE, seeds=range(count // settings), results=folder)
        )
        part, parting = timed(lambda: running.to_do(planned, shard=(1, SHARDS)))
    runs = len(planned.experiment.runs)
    return [
        {"what": f"a plan of {runs} runs", "cpu_seconds": making},
        {"what": f"the first of its {SHARDS} shards, {len(part)} runs", "cpu_seconds": parting},
    ]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    done = work()
    return done, time.process_time() - started


def ray(count: int) -> list[dict[str, Any]]:
    """Seconds per run that does next to nothing, on Ray and without."""
    from rethink_gen.execution import ray, scheduler

    runs = [
        Run(dataset="digits", train_size=1, test_size=1, batch_size=1, epochs=1, seed=seed) for seed in range(count)
    ]
    here = len(os.sched_getaffinity(0))
    ways = {
        "on Ray, a run per task": lambda runs, work: ray.execute(runs, work=work, needs=ray.Needs(here)),
        "on Ray, 50 runs per task": lambda runs, work: ray.execute(
            runs, work=work, needs=ray.Needs(here), runs_per_task=50
        ),
        "without": lambda runs, work: scheduler.execute(runs, work=work),
    }
    rows = []
    for name, execute in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            started, times = time.perf_counter(), []
            for outcome in execute(runs, Path(folder)):
                assert isinstance(outcome, store.Result), outcome
                times.append(time.perf_counter() - started)
        each = (times[-1] - times[count // 10]) / (count - 1 - count // 10)  # once it is under way
        rows.append({"what": name, "runs": count, "seconds_to_first": times[0], "seconds_each": each})
    base = rows[-1]["seconds_each"]
    for row in rows:
        row["overhead_each"] = row["seconds_each"] - base
        row["hours_of_overhead_for_100000"] = row["overhead_each"] * 100_000 / 3600
    return rows


PARTS: dict[str, Callable[[], Any]] = {
    "files": lambda: files(FILES),
    "plan": lambda: plan(FILES),
    "ray": lambda: ray(TASKS),
}
TITLES = {
    "files": f"{FILES:,} result files",
    "plan": "Plans",
    "ray": f"{TASKS:,} runs that do next to nothing, on one node",
}


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    lines = ["# Very many runs", "", "By `python benchmarks/scale.py`.", ""]
    for part in found:
        lines += [f"## {TITLES[part]}", "", found[part]["made_by"], ""]
        names = list(found[part]["rows"][0])
        lines += [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * len(names) + "|"]
        shown = lambda value: f"{value:,.3g}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"
        for row in found[part]["rows"]:
            lines.append(f"| {' | '.join(x if isinstance(x, str) else shown(x) for x in row.values())} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    parts.measure(__doc__, "scale", PARTS, page)
