"""What the first step of the small Inception waits for where nothing was compiled before, and what shortens that.

    TFDS_DATA_DIR=… python benchmarks/compiling.py      # two minutes; benchmarks/results/compiling.*

CPU seconds, which other work on the machine changes little. On a CPU, with CIFAR-10 decoded before.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import parts

from rethink_gen.data import randomness
from rethink_gen.execution import machine
from rethink_gen.runs import Run
from rethink_gen.training import compilation, core, measurement, preparation
from rethink_gen.training.program import Hparams

RUN = Run(model="small_inception", train_size=1000, test_size=1000)
STEPS = 3  # that are timed
OPTIONS = (
    {},
    *({"xla_backend_optimization_level": level} for level in (2, 1, 0)),
    *({"xla_cpu_parallel_codegen_split_count": count} for count in (1, 2)),
    {"xla_cpu_prefer_vector_width": 256},
)


class Clock:
    """CPU seconds of this process between two looks."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def __call__(self) -> float:
        before, self.last = self.last, time.process_time()
        return self.last - before


def start() -> tuple[tuple[Any, ...], list[dict[str, Any]]]:
    """The arguments of a step, and rows with the CPU seconds of what comes before it."""
    rows, clock = [{"what": "loading Python's packages", "cpu_seconds": time.process_time()}], Clock()

    def done(what: str) -> None:
        rows.append({"what": what, "cpu_seconds": clock()})

    program, train, test, *_ = preparation.prepare([RUN])
    done("reading the data")
    numbers = map(np.float32, (RUN.learning_rate, RUN.learning_rate_decay, RUN.momentum, RUN.weight_decay))
    hparams = Hparams(randomness.root_key(0), *numbers)
    state = jax.block_until_ready(core.init(program, hparams, train.images))
    done("the first weights")
    order = compilation.jit(core.epoch_order)(program, hparams, 0, RUN.train_size, program.batch_size)
    done("the order of an epoch")
    jax.block_until_ready(measurement.total(program, state, test, preparation.ONE)[0])
    done("evaluation of 1,000 images")
    jax.block_until_ready(measurement.total(program, state, test, preparation.ONE)[0])
    done("the same again, compiled before")
    return (program, hparams, train, order, state), rows


def measured() -> list[dict[str, Any]]:
    machine.keep_memory()
    arguments, rows = start()
    for options in OPTIONS:
        jax.clear_caches()
        chosen = {**compilation._cpu_options(), **options}
        step: Callable[..., Any] = jax.jit(core.train_step, static_argnums=0, compiler_options=chosen)
        clock = Clock()
        lowered = step.lower(*arguments)
        traced = clock()
        compiled = lowered.compile()
        row = {"what": "a step", "options": options, "traced": traced, "cpu_seconds": clock()}
        state = jax.block_until_ready(compiled(*arguments[1:]))
        clock()
        for _ in range(STEPS):
            state = jax.block_until_ready(compiled(*arguments[1:-1], state))
        row["step"] = clock() / STEPS
        weights = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state.params))
        rows.append({**row, "weights": hashlib.sha256(weights).hexdigest()})
    return rows


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    [part] = found.values()
    rows = [row for row in part["rows"] if "options" not in row]
    lines = ["| before the first step | CPU seconds |", "|---|--:|"]
    lines += [f"| {row['what']} | {row['cpu_seconds']:.1f} |" for row in rows]
    lines += ["", "| options of XLA for a step | traced, CPU s | compiled, CPU s | a step, CPU s | same bits |"]
    lines += ["|---|--:|--:|--:|---|"]
    plain, *_ = steps = [row for row in part["rows"] if "options" in row]
    for row in steps:
        options = ", ".join(f"`{name}={value}`" for name, value in row["options"].items()) or "ours"
        numbers = " | ".join(f"{row[name]:.1f}" for name in ("traced", "cpu_seconds", "step"))
        lines.append(f"| {options} | {numbers} | {'yes' if row['weights'] == plain['weights'] else 'no'} |")
    return "\n".join([*lines, "", part["made_by"], ""])


if __name__ == "__main__":
    parts.measure(__doc__, "compiling", {"first step": measured}, page)
