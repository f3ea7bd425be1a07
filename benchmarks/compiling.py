"""What the first step of the small Inception waits for where nothing was compiled before, and what shortens that.

    TFDS_DATA_DIR=… python benchmarks/compiling.py            # ten minutes; benchmarks/results/compiling.*
    TFDS_DATA_DIR=… python benchmarks/compiling.py networks   # the older loops of XLA, for several networks
    TFDS_DATA_DIR=… python benchmarks/compiling.py ahead      # the step compiled meanwhile, by the clock

CPU seconds, which other work on the machine changes little; `ahead` needs idle cores. On a CPU, with CIFAR-10 decoded
before.
"""

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import parts
from commands import measured

from rethink_gen.data import randomness
from rethink_gen.execution import machine
from rethink_gen.runs import Run
from rethink_gen.training import compilation, core, measurement, preparation
from rethink_gen.training.program import Hparams

RUN = Run(model="small_inception", train_size=1000, test_size=1000)
STEPS = 3  # that are timed
TURNS = 3  # of each way to the first step, in new processes
NETWORKS = ("mlp_1x512", "mlp_3x512", "small_alexnet", "small_inception", "resnet_20", "mixer", "vit")
OLDER = {"xla_cpu_use_fusion_emitters": False}
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


def hyperparameters(run: Run) -> Hparams:
    numbers = (run.learning_rate, run.learning_rate_decay, run.momentum, run.weight_decay)
    return Hparams(randomness.root_key(0), *map(np.float32, numbers))


def start(run: Run = RUN) -> tuple[tuple[Any, ...], list[dict[str, Any]]]:
    """The arguments of a step, and rows with the CPU seconds of what comes before it."""
    rows, clock = [{"what": "loading Python's packages", "cpu_seconds": time.process_time()}], Clock()

    def done(what: str) -> None:
        rows.append({"what": what, "cpu_seconds": clock()})

    program, train, test, *_ = preparation.prepare([run])
    done("reading the data")
    hparams = hyperparameters(run)
    state = jax.block_until_ready(core.init(program, hparams, train.images))
    done("the first weights")
    order = compilation.jit(core.epoch_order)(program, hparams, 0, run.train_size, program.batch_size)
    done("the order of an epoch")
    jax.block_until_ready(measurement.total(program, state, test, preparation.ONE)[0])
    done("evaluation of 1,000 images")
    jax.block_until_ready(measurement.total(program, state, test, preparation.ONE)[0])
    done("the same again, compiled before")
    return (program, hparams, train, order, state), rows


def compiled(arguments: tuple[Any, ...], options: dict[str, Any], steps: int = STEPS) -> dict[str, Any]:
    """CPU seconds of a step and of its compilation with these options, and a digest of the weights after it."""
    jax.clear_caches()
    program, _, train, *_, state = arguments
    ours = compilation._cpu_options() if compilation.convolves(program.model, train.images.shape[-3:]) else {}
    step: Callable[..., Any] = jax.jit(core.train_step, static_argnums=0, compiler_options={**ours, **options})
    clock = Clock()
    lowered = step.lower(*arguments)
    traced = clock()
    program = lowered.compile()
    row = {"options": options, "traced": traced, "cpu_seconds": clock()}
    state = jax.block_until_ready(program(*arguments[1:]))
    clock()
    for _ in range(steps):
        state = jax.block_until_ready(program(*arguments[1:-1], state))
    row["step"] = clock() / steps
    weights = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state.params))
    return {**row, "weights": hashlib.sha256(weights).hexdigest()}


def first_step() -> list[dict[str, Any]]:
    machine.keep_memory()
    arguments, rows = start()
    return [*rows, *({"what": "a step"} | compiled(arguments, options) for options in OPTIONS)]


def networks() -> list[dict[str, Any]]:
    """Steps of several networks with XLA's loops of before its fusion emitters, which a later XLA will not have."""
    machine.keep_memory()
    rows = []
    for model in NETWORKS:
        arguments, _ = start(replace(RUN, model=model))
        steps = 30 if model.startswith("mlp") else STEPS
        rows += [{"what": model} | compiled(arguments, options, steps) for options in ({}, OLDER)]
    return rows


def ahead() -> list[dict[str, Any]]:
    """A new process to its first step: one thing after the other, and the step compiled beside the first weights."""
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    ways = {"one after the other": False, "the step compiled beside the first weights": True}
    command = [sys.executable, "-c", "import sys, compiling; compiling.to_first_step(beside=sys.argv[1] == 'True')"]
    return [measured(what, [*command, str(beside)], **here) for _ in range(TURNS) for what, beside in ways.items()]


def to_first_step(beside: bool) -> None:
    """Takes the first step of a run that evaluates nothing before, and ends the process."""
    machine.keep_memory()
    program, train, *_ = preparation.prepare([RUN])
    hparams, draw_order = hyperparameters(RUN), compilation.jit(core.epoch_order)
    step = compilation.jit(core.train_step, convolves=True)

    def compile_step() -> None:
        state = jax.eval_shape(partial(core.init, program, hparams, train.images))
        order = jax.ShapeDtypeStruct((RUN.train_size // RUN.batch_size, RUN.batch_size), np.int32)
        step.lower(program, hparams, train, order, state).compile()

    other = threading.Thread(target=compile_step)
    if beside:
        other.start()
    state = core.init(program, hparams, train.images)
    order = draw_order(program, hparams, 0, RUN.train_size, RUN.batch_size)
    if beside:
        other.join()
    jax.block_until_ready(step(program, hparams, train, order, state))
    os._exit(0)


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    lines = []
    for name, part in found.items():
        of_part = {"first step": of_first_step, "networks": of_networks, "ahead": of_ahead}[name]
        lines += [*of_part(part["rows"]), "", part["made_by"], ""]
    return "\n".join(lines)


def of_first_step(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| before the first step | CPU seconds |", "|---|--:|"]
    lines += [f"| {row['what']} | {row['cpu_seconds']:.1f} |" for row in rows if "options" not in row]
    lines += ["", "| options of XLA for a step | traced, CPU s | compiled, CPU s | a step, CPU s | same bits |"]
    lines += ["|---|--:|--:|--:|---|"]
    plain, *_ = steps = [row for row in rows if "options" in row]
    for row in steps:
        options = ", ".join(f"`{name}={value}`" for name, value in row["options"].items()) or "ours"
        numbers = " | ".join(f"{row[name]:.1f}" for name in ("traced", "cpu_seconds", "step"))
        lines.append(f"| {options} | {numbers} | {'yes' if row['weights'] == plain['weights'] else 'no'} |")
    return lines


def of_networks(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["Older loops: `xla_cpu_use_fusion_emitters=False`.", ""]
    lines += ["| a step of | compiled, CPU s | with older loops | a step, CPU s | with older loops | same bits |"]
    lines += ["|---|--:|--:|--:|--:|---|"]
    for ours, older in zip(rows[::2], rows[1::2], strict=True):
        numbers = [
            f"{row[name]:.{digits}f}" for name, digits in (("cpu_seconds", 1), ("step", 3)) for row in (ours, older)
        ]
        same = "yes" if ours["weights"] == older["weights"] else "no"
        lines.append(f"| `{ours['what']}` | {' | '.join(numbers)} | {same} |")
    return lines


def of_ahead(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| a new process to its first step | seconds, the best of three | CPU seconds of it |", "|---|--:|--:|"]
    for what in dict.fromkeys(row["what"] for row in rows):
        best = min((row for row in rows if row["what"] == what), key=lambda row: row["seconds"])
        lines.append(f"| {what} | {best['seconds']:.1f} | {best['cpu_seconds']:.1f} |")
    return lines


if __name__ == "__main__":
    parts.measure(__doc__, "compiling", {"first step": first_step, "networks": networks, "ahead": ahead}, page)
