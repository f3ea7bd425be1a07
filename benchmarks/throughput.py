"""Images per second of training, ours beside a plain PyTorch loop, on this machine, in turns: a table and a JSON file.

    pip install -e '.[benchmark]'
    python benchmarks/throughput.py            # about ten minutes on two cores; leaves benchmarks/results/
    python benchmarks/throughput.py --precisions float32 bfloat16 --lanes 1 4 16    # on an accelerator

Both train the four networks of the paper on random images of 28×28, as CIFAR-10's are once cropped, in batches of 128,
whitened, by cross-entropy and SGD with momentum, the data in memory of the device. Ours is the very function that
`rethink-gen run` calls, for one run or for several side by side (lanes), whose images count together. PyTorch is the
loop of pytorch_loop.py, one run, eager and under torch.compile, where that works: on a GPU in each of its modes, of
which the table has the fastest. On a GPU float32 is that of TF32 products for all, which is jax's default. A turn is at
least SECONDS long; all take TURNS each, one after the other, so that a busy machine slows each of them. What is said is
the median of the ratios of turns, and the range of those to eager.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from parts import processor
from pytorch_loop import BATCH, NETWORKS, Loop

from rethink_gen.data import randomness
from rethink_gen.execution import machine
from rethink_gen.models import create
from rethink_gen.training import compilation, core, provenance
from rethink_gen.training.program import PRECISIONS, Data, Hparams, Program
from rethink_gen.training.vectorize import Lanes

ACCELERATOR = machine.accelerated()  # asking jax would start it, and each side has its process to itself
IMAGES = 50_000 if ACCELERATOR else 2560
SECONDS, TURNS = 4.0, 5
HPARAMS = (0.01, 0.95, 0.9, 0.0)
DEVICE = "cuda" if ACCELERATOR and torch.cuda.is_available() else "cpu"
RESULTS = Path(__file__).parent / "results"

EAGER = "PyTorch"
MODES = ("default", "reduce-overhead", "max-autotune") if DEVICE == "cuda" else ("default",)  # of torch.compile

Step = Callable[[], None]  # trains on some batches, and returns once that is done
Side = str | int  # EAGER, a mode of torch.compile, or ours with so many lanes


def ours(name: str, precision: str, number: int) -> tuple[Step, int, int]:
    """(step, images per call of all lanes, parameters of one)."""
    lanes = Lanes(number)
    one = program(name, precision)
    hparams = [Hparams(randomness.root_key(seed), *map(jnp.float32, HPARAMS)) for seed in range(number)]
    images, labels = random_data()
    data = lanes.data([Data(images, labels, labels)] * number)  # type: ignore[arg-type]
    states = [core.init(one, each, data.images) for each in hparams]
    size = sum(leaf.size for leaf in jax.tree.leaves(states[0].params))
    stacked, state = lanes.stack(hparams), lanes.stack(states)
    order = compilation.jit(core.epoch_order, lanes)(one, stacked, 0, IMAGES, BATCH)
    function, most = compilation.stepper(one, data, lanes)
    count = min(most, IMAGES // BATCH)

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(function(stacked, data, order, state, count))

    return step, count * BATCH * number, size


def program(name: str, precision: str) -> Program:
    model = create.create(name, 10)
    return Program(model, (), crop_size=28, whitening=True, batch_size=BATCH, precision=precision)


def pytorch(name: str, precision: str, mode: str | None) -> tuple[Step, int, int]:
    """(step, images per call, parameters) of the loop one would write, eager or in a mode of torch.compile."""
    images, labels = (torch.from_numpy(array).to(DEVICE) for array in random_data())
    loop = Loop(name, images.permute(0, 3, 1, 2).contiguous(), labels.long(), precision, mode)
    steps = 100 if ACCELERATOR else 1  # a call of ours has as many

    def step() -> None:
        for _ in range(steps):
            loop.step(torch.randint(IMAGES, (BATCH,), device=DEVICE))
        wait()

    return step, BATCH * steps, sum(parameter.numel() for parameter in loop.model.parameters())


def wait() -> None:
    """Until PyTorch's device has done what it was told."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def random_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, 28, 28, 3), np.uint8), rng.integers(0, 10, IMAGES).astype(np.int32)


def rate(step: Step, images: int, seconds: float) -> float:
    """Images per second over one turn."""
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        step()
        count += images
    return count / passed


def gemm(precision: str, seconds: float) -> float:
    """GFLOP/s of the best product of matrices here, by PyTorch."""
    size = 8192 if ACCELERATOR else 2048
    a = torch.randn(size, size, device=DEVICE, dtype=getattr(torch, precision))
    product = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, a, out=product)
        wait()

    return rate(multiply, 1, seconds) * 2 * size**3 / 1e9


def flop(name: str) -> float:
    """Floating point operations of training on one image, as XLA counts them: additions and multiplications."""
    one, size = program(name, "float32"), BATCH
    hparams = Hparams(randomness.root_key(0), *map(jnp.float32, HPARAMS))
    images, labels = random_data()
    data = Data(images[:size], labels[:size], labels[:size])  # type: ignore[arg-type]
    state = jax.eval_shape(partial(core.init, one), hparams, data.images)
    order = jnp.zeros((1, size), jnp.int32)
    with jax.default_device(jax.devices("cpu")[0]):  # a GPU's compiler does not count
        lowered = jax.jit(core.train_step, static_argnums=0).lower(one, hparams, data, order, state)
        cost: Any = lowered.cost_analysis()
    return cost["flops"] / size


def work(orders: Any, name: str, precision: str, side: Side) -> None:
    """A side's own process: says how soon it was ready, then for each question its rate over so many seconds."""
    start = time.perf_counter()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if isinstance(side, int):
        machine.keep_memory()
        compilation.use_compile_cache()
        step, images, parameters = ours(name, precision, side)
    else:
        step, images, parameters = pytorch(name, precision, None if side == EAGER else side)
    step()
    orders.send((time.perf_counter() - start, parameters))
    for what, seconds in iter(orders.recv, None):
        orders.send(gemm(precision, seconds) if what == "gemm" else rate(step, images, seconds))


def measure(name: str, precision: str, lanes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """A row for each number of lanes, all beside the same loops of PyTorch, turn by turn.

    Each side has a process of its own, for what it asks of malloc is its own.
    """
    context = multiprocessing.get_context("spawn")
    sides: dict[Side, Any] = {}
    ready: dict[Side, tuple[float, int]] = {}
    for side in (EAGER, *MODES, *lanes):
        near, far = context.Pipe()
        context.Process(target=work, args=(far, name, precision, side), daemon=True).start()
        far.close()  # the process has its own: once it ends, so does the pipe
        try:
            ready[side], sides[side] = near.recv(), near
        except EOFError:
            assert side in MODES, f"{side} failed"  # it has said why

    def ask(side: Side, what: str, seconds: float) -> float:
        sides[side].send((what, seconds))
        return sides[side].recv()

    for side in sides:
        ask(side, "rate", seconds / 2)  # warm
    rates: dict[Side, list[float]] = {side: [] for side in sides}
    limits = []
    for _ in range(TURNS):
        for side in sides:
            rates[side].append(ask(side, "rate", seconds))
        limits.append(ask(EAGER, "gemm", seconds / 4))
    for near in sides.values():
        near.send(None)
    assert len({parameters for _, parameters in ready.values()}) == 1, "other numbers of parameters"
    median, cost, rows = statistics.median, flop(name) / 1e9, []
    compiled = {mode: rates[mode] for mode in MODES if mode in rates}
    fastest = max(compiled, key=lambda mode: median(compiled[mode]), default=None)
    for number in lanes:
        divided = lambda by, number=number: [a / b for a, b in zip(rates[number], by, strict=True)]
        row = {"model": name, "precision": precision, "lanes": number, "gflop_per_image": cost, "gemm": limits}
        row |= {"parameters": ready[number][1], "ours": rates[number], "pytorch": rates[EAGER]}
        row |= {"compiled": compiled, "fastest": fastest}
        row |= {"seconds_to_first_step": {str(s): t for s, (t, _) in ready.items()}}
        row |= {"ratio": median(divided(rates[EAGER])), "ratios": divided(rates[EAGER])}
        row |= {"ratio_compiled": median(divided(compiled[fastest])) if fastest else None}
        rows.append(row | {"share": median(divided(limits)) * cost})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | precision | lanes | ours, images/s | PyTorch, images/s | ratio | its range "
        "| torch.compile, images/s | ratio | share of GEMM limit |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        ours, eager = (f"{statistics.median(row[side]):,.0f}" for side in ("ours", "pytorch"))
        mode = row["fastest"]
        compiled = f"{statistics.median(row['compiled'][mode]):,.0f}" if mode else "fails"
        compiled += f" ({mode})" if len(row["compiled"]) > 1 else ""
        what = f"{row['model']} | {row['precision']} | {row['lanes']}"
        ratio = f"{row['ratio']:.2f} | {min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        beside = f"{row['ratio_compiled']:.2f}" if mode else ""
        lines.append(f"| {what} | {ours} | {eager} | {ratio} | {compiled} | {beside} | {row['share']:.0%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--lanes", nargs="+", type=int, default=[1])
    parser.add_argument("--output", default="throughput", help="name of the two files in benchmarks/results")
    arguments = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share an accelerator
    rows = []
    for name, precision in itertools.product(arguments.models, arguments.precisions):
        new = measure(name, precision, arguments.lanes, arguments.seconds)
        print("\n".join(table(new).splitlines()[2:]), flush=True)
        rows += new
    made_by = {
        "device": provenance.provenance()["device"],
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "torch": torch.__version__},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.output}.json").write_text(json.dumps({"made_by": made_by, "rows": rows}, indent=1) + "\n")
    (RESULTS / f"{arguments.output}.md").write_text(
        table(rows) + f"\n{made_by['device']}, {made_by['processor']}, {made_by['versions']}\n"
    )
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
