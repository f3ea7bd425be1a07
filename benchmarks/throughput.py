"""Images per second of training, ours beside a plain PyTorch loop, on this machine, in turns: a table and a JSON file.

    pip install -e '.[benchmark]'
    python benchmarks/throughput.py            # about ten minutes on two cores; leaves benchmarks/results/
    python benchmarks/throughput.py --precisions float32 bfloat16 --lanes 1 4 16    # on an accelerator

Both train the four networks of the paper on random images of 28×28, as CIFAR-10's are once cropped, in batches of 128,
whitened, by cross-entropy and SGD with momentum, the data in memory of the device. Ours is the very function that
`rethink-gen run` calls, for one run or for several side by side (lanes), whose images count together. PyTorch is eager,
one run, in channels_last where it convolves; in bfloat16 under autocast. On a GPU float32 is that of TF32 products for
both, which is jax's default. A turn is at least SECONDS long; the two take TURNS each, one after the other, so that a
busy machine slows both. What is said is the median of the ratios of turns, and their range.
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
from torch import nn

from rethink_gen import machine, models, programs, training, workers
from rethink_gen.lanes import Lanes

MODELS = ("mlp_1x512", "mlp_3x512", "small_alexnet", "small_inception")
ACCELERATOR = workers.accelerated()  # asking jax would start it, and each side has its process to itself
BATCH, IMAGES = 128, 50_000 if ACCELERATOR else 2560
SECONDS, TURNS = 4.0, 5
HPARAMS = (0.01, 0.95, 0.9, 0.0)
DEVICE = "cuda" if ACCELERATOR and torch.cuda.is_available() else "cpu"
RESULTS = Path(__file__).parent / "results"

Step = Callable[[], None]  # trains on some batches, and returns once that is done


def ours(name: str, precision: str, number: int) -> tuple[Step, int, int]:
    """(step, images per call of all lanes, parameters of one)."""
    lanes = Lanes(number)
    one = program(name, precision)
    hparams = [training.Hparams(training.root_key(seed), *map(jnp.float32, HPARAMS)) for seed in range(number)]
    images, labels = random_data()
    data = lanes.data([training.Data(images, labels, np.zeros(IMAGES, bool))] * number)  # type: ignore[arg-type]
    states = [training.init(one, each, data.images) for each in hparams]
    size = sum(leaf.size for leaf in jax.tree.leaves(states[0].params))
    stacked, state = lanes.stack(hparams), lanes.stack(states)
    order = programs.jit(training.epoch_order, lanes)(stacked, 0, IMAGES, BATCH)
    function, most = programs.stepper(one, data, lanes)
    count = min(most, IMAGES // BATCH)

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(function(stacked, data, order, state, count))

    return step, count * BATCH * number, size


def program(name: str, precision: str) -> training.Program:
    model = models.create(name, 10)
    return training.Program(model, (), crop_size=28, whitening=True, batch_size=BATCH, precision=precision)


def pytorch(name: str, precision: str) -> tuple[Step, int, int]:
    """(step, images per call, parameters) of the loop one would write."""
    convolves = not name.startswith("mlp")
    layout: Any = torch.channels_last if convolves else torch.contiguous_format
    model = NETWORKS[name]().to(DEVICE, memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = (torch.from_numpy(array).to(DEVICE) for array in random_data())
    images, labels = images.permute(0, 3, 1, 2).contiguous(), labels.long()
    steps = 100 if ACCELERATOR else 1  # a call of ours has as many

    def one() -> None:
        index = torch.randint(IMAGES, (BATCH,), device=DEVICE)
        x = images[index].float() / 255
        deviation = x.std((1, 2, 3), correction=0, keepdim=True).clamp(min=(3 * 28 * 28) ** -0.5)
        x = ((x - x.mean((1, 2, 3), keepdim=True)) / deviation).to(memory_format=layout)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = nn.functional.cross_entropy(model(x), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def step() -> None:
        for _ in range(steps):
            one()
        wait()

    return step, BATCH * steps, sum(parameter.numel() for parameter in model.parameters())


def wait() -> None:
    """Until PyTorch's device has done what it was told."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def random_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, 28, 28, 3), np.uint8), rng.integers(0, 10, IMAGES).astype(np.int32)


def mlp(*hidden: int) -> nn.Module:
    widths = (3 * 28 * 28, *hidden)
    layers = [layer for a, b in zip(widths, hidden, strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], 10))


def small_alexnet() -> nn.Module:
    module = lambda channels: (
        nn.Conv2d(channels, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.LocalResponseNorm(9, 0.001, 0.75, 1.0),
    )
    top = (nn.Linear(64 * 7 * 7, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU(), nn.Linear(192, 10))
    return nn.Sequential(*module(3), *module(64), nn.Flatten(), *top)


class Offset(nn.Module):
    """What batch norm adds; without the scale that it would multiply by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.offset.view(-1, 1, 1)


def convolution(inputs: int, channels: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, channels, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(channels, eps=1e-3, affine=False),
        Offset(channels),
        nn.ReLU(),
    )


class Beside(nn.Module):
    """Branches, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def small_inception() -> nn.Module:
    layers, channels = [convolution(3, 96, 3)], 96
    for ones, threes in (
        (32, 32),
        (32, 48),
        (0, 80),
        (112, 48),
        (96, 64),
        (80, 80),
        (48, 96),
        (0, 96),
        *[(176, 160)] * 2,
    ):
        if ones:
            layers.append(Beside(convolution(channels, ones, 1), convolution(channels, threes, 3)))
            channels = ones + threes
        else:
            layers.append(Beside(convolution(channels, threes, 3, 2), nn.MaxPool2d(3, 2, padding=1)))
            channels += threes
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp_1x512": partial(mlp, 512),
    "mlp_3x512": partial(mlp, 512, 512, 512),
    "small_alexnet": small_alexnet,
    "small_inception": small_inception,
}


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
    hparams = training.Hparams(training.root_key(0), *map(jnp.float32, HPARAMS))
    images, labels = random_data()
    data = training.Data(images[:size], labels[:size], np.zeros(size, bool))  # type: ignore[arg-type]
    state = jax.eval_shape(partial(training.init, one), hparams, data.images)
    order = jnp.zeros((1, size), jnp.int32)
    with jax.default_device(jax.devices("cpu")[0]):  # a GPU's compiler does not count
        lowered = jax.jit(training.train_step, static_argnums=0).lower(one, hparams, data, order, state)
        cost: Any = lowered.cost_analysis()
    return cost["flops"] / size


def work(orders: Any, name: str, precision: str, number: int) -> None:
    """A side's own process: says how soon it was ready, then for each question its rate over so many seconds."""
    start = time.perf_counter()
    if number:
        machine.keep_memory()
        machine.use_compile_cache()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    step, images, parameters = ours(name, precision, number) if number else pytorch(name, precision)
    step()
    orders.send((time.perf_counter() - start, parameters))
    for what, seconds in iter(orders.recv, None):
        orders.send(gemm(precision, seconds) if what == "gemm" else rate(step, images, seconds))


def measure(name: str, precision: str, lanes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """A row for each number of lanes, all beside the same loop of PyTorch, turn by turn.

    Each side has a process of its own, for what it asks of malloc is its own.
    """
    context, sides = multiprocessing.get_context("spawn"), {}
    ready, rates, limits = {}, {}, []
    for number in (0, *lanes):  # PyTorch has none
        sides[number], far = context.Pipe()
        context.Process(target=work, args=(far, name, precision, number), daemon=True).start()
        ready[number], rates[number] = sides[number].recv(), []

    def ask(number: int, what: str, seconds: float) -> float:
        sides[number].send((what, seconds))
        return sides[number].recv()

    for number in sides:
        ask(number, "rate", seconds / 2)  # warm
    for _ in range(TURNS):
        for number in sides:
            rates[number].append(ask(number, "rate", seconds))
        limits.append(ask(0, "gemm", seconds / 4))
    for side in sides.values():
        side.send(None)
    cost, rows = flop(name) / 1e9, []
    for number in lanes:
        assert ready[number][1] == ready[0][1], "other numbers of parameters"
        ratios = [a / b for a, b in zip(rates[number], rates[0], strict=True)]
        row = {"model": name, "precision": precision, "lanes": number, "gflop_per_image": cost, "gemm": limits}
        row |= {"parameters": ready[0][1], "ours": rates[number], "pytorch": rates[0]}
        row |= {"ours_seconds_to_first_step": ready[number][0], "pytorch_seconds_to_first_step": ready[0][0]}
        share = [a * cost / b for a, b in zip(rates[number], limits, strict=True)]
        median = statistics.median
        rows.append(row | {"ratio": median(ratios), "ratios": ratios, "share": median(share)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "| model | precision | lanes | ours, images/s | PyTorch, images/s | ratio | its range | share of GEMM limit |"
    )
    lines = [head, "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        rates = (f"{statistics.median(row[side]):,.0f}" for side in ("ours", "pytorch"))
        what = f"{row['model']} | {row['precision']} | {row['lanes']}"
        spread = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        lines.append(f"| {what} | {' | '.join(rates)} | {row['ratio']:.2f} | {spread} | {row['share']:.0%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--precisions", nargs="+", choices=training.PRECISIONS, default=["float32"])
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
        "device": machine.provenance()["device"],
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "torch": torch.__version__},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.output}.json").write_text(json.dumps({"made_by": made_by, "rows": rows}, indent=1) + "\n")
    (RESULTS / f"{arguments.output}.md").write_text(table(rows) + f"\n{made_by['device']}, {made_by['versions']}\n")
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
