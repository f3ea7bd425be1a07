"""What the tests take: README's command, with nothing kept from before, and again; and what is compiled meanwhile.

TFDS_DATA_DIR=… python benchmarks/suite.py       # 15 minutes on two cores; benchmarks/results/suite.*
"""

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import parts
from commands import measured

TESTS = [sys.executable, "-m", "pytest", "-n", "2", "-p", Path(__file__).stem, str(Path(__file__).parents[1])]
FOLDER = "SUITE_FOLDER"  # the environment's: where the processes of tests write what they compiled
WHOLE = "`pytest -n 2`, "
MOST = 10  # names of programs, of those that take longest
COMPILE = "/jax/core/compile/backend_compile_duration"
PREPARE = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration")


def pytest_configure() -> None:
    """This file is also a plug-in of pytest. Each process keeps the seconds of every program, by name."""
    if not (folder := os.environ.get(FOLDER)):
        return
    import jax

    counts, seconds, missing = Counter(), Counter(), []

    def compiled(event: str, duration: float, fun_name: str = "", **_: Any) -> None:
        name = fun_name.removeprefix("jit(").removesuffix(")")
        if event == COMPILE and missing:  # one that is found among the compiled ones is no program
            missing.clear()
            counts[name] += 1
            seconds[name] += duration
        elif event in PREPARE:
            seconds["tracing and lowering"] += duration
        else:
            return
        found = json.dumps({"counts": counts, "seconds": seconds})
        Path(folder, f"{os.getpid()}.json").write_text(found)

    jax.monitoring.register_event_duration_secs_listener(compiled)
    jax.monitoring.register_event_listener(
        lambda event, **_: missing.append(event) if event == "/jax/compilation_cache/cache_misses" else None
    )


def tests(what: str, cache: str) -> list[dict[str, Any]]:
    """A row for the command, and one for each of the programs that took longest."""
    counts, seconds = Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        environment = {FOLDER: folder, "RETHINK_GEN_CACHE": cache, "PYTHONPATH": str(Path(__file__).parent)}
        row = measured(WHOLE + what, TESTS, **environment)
        for path in Path(folder).glob("*.json"):
            found = json.loads(path.read_text())
            counts.update(found["counts"])
            seconds.update(found["seconds"])
    rows = [{"what": name, "programs": counts[name], "seconds": seconds[name]} for name, _ in seconds.most_common(MOST)]
    rest = [name for name, _ in seconds.most_common()[MOST:]]
    others = {
        "what": f"{len(rest)} other names",
        "programs": sum(map(counts.get, rest)),
        "seconds": sum(map(seconds.get, rest)),
    }
    return [row | {"programs": counts.total()}, *rows, others]


def first_and_again() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as cache:
        first = tests("the first time", cache)
        return [*first, tests("again", cache)[0]]


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    [part] = found.values()
    whole = [row for row in part["rows"] if "cpu_seconds" in row]
    lines = ["| command | seconds | CPU seconds | programs compiled |", "|---|--:|--:|--:|"]
    lines += [
        f"| {row['what']} | {row['seconds']:.0f} | {row['cpu_seconds']:.0f} | {row['programs']:,} |" for row in whole
    ]
    lines += ["", "| compiled the first time | programs | seconds |", "|---|--:|--:|"]
    programs = [row for row in part["rows"] if "cpu_seconds" not in row]
    lines += [f"| `{row['what']}` | {row['programs'] or ''} | {row['seconds']:.0f} |" for row in programs]
    return "\n".join([*lines, "", part["made_by"], ""])


if __name__ == "__main__":
    parts.measure(__doc__, "suite", {"tests": first_and_again}, page)
