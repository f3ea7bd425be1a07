"""Images per second of training, ours beside a plain PyTorch loop, on this machine, in turns: a table and a JSON file.

    pip install -e '.[benchmark]'
    python benchmarks/throughput.py            # about ten minutes on two cores; leaves benchmarks/results/

Both train the four networks of the paper on random images of CIFAR-10's size, in batches of 128, float32, whitened, by
cross-entropy and SGD with momentum, the data in memory. Ours is the very function that `rethink-gen run` calls.
PyTorch is eager, in channels_last where it convolves. A turn is at least SECONDS long; the two take TURNS each, one
after the other, so that a busy machine slows both. What is said is the median of the ratios of turns, and their range.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from rethink_gen import cohorts, models, training

MODELS = ("mlp_1x512", "mlp_3x512", "small_alexnet", "small_inception")
BATCH, IMAGES = 128, 2560
SECONDS, TURNS = 4.0, 5
RESULTS = Path(__file__).parent / "results"

Step = Callable[[], None]  # trains on some batches, and returns once that is done


def ours(name: str) -> tuple[Step, int, int]:
    """(step, images per call, parameters)."""
    program = training.Program(models.create(name, 10), (), crop_size=28, whitening=True, batch_size=BATCH)
    hparams = training.Hparams(training.root_key(0), *map(jnp.float32, (0.01, 0.95, 0.9, 0.0)))
    data = training.Data(*map(jnp.asarray, (*random_data(), np.zeros(IMAGES, bool))))
    state = training.init(program, hparams, data.images)
    order = cohorts.compiled_order(hparams, 0, IMAGES, BATCH)
    function, most = cohorts.stepper(program, data)
    count = min(most, IMAGES // BATCH)

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(function(hparams, data, order, state, count))

    return step, count * BATCH, sum(leaf.size for leaf in jax.tree.leaves(state.params))


def pytorch(name: str) -> tuple[Step, int, int]:
    """(step, images per call, parameters) of the loop one would write."""
    convolves = not name.startswith("mlp")
    layout: Any = torch.channels_last if convolves else torch.contiguous_format
    model = NETWORKS[name]().to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = random_data()
    images, labels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long()

    def step() -> None:
        index = torch.randint(IMAGES, (BATCH,))
        x = images[index][:, :, 2:30, 2:30].float() / 255
        deviation = x.std((1, 2, 3), correction=0, keepdim=True).clamp(min=(3 * 28 * 28) ** -0.5)
        x = ((x - x.mean((1, 2, 3), keepdim=True)) / deviation).to(memory_format=layout)
        loss = nn.functional.cross_entropy(model(x), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, BATCH, sum(parameter.numel() for parameter in model.parameters())


def random_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8), rng.integers(0, 10, IMAGES).astype(np.int32)


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


def gemm(seconds: float) -> float:
    """GFLOP/s of the best float32 product of matrices here, by PyTorch."""
    a, product = torch.randn(2048, 2048), torch.empty(2048, 2048)
    multiply: Any = partial(torch.mm, a, a, out=product)
    return rate(multiply, 1, seconds) * 2 * 2.048**3


def flop(name: str) -> float:
    """Floating point operations of training on one image, as XLA counts them: additions and multiplications."""
    program = training.Program(models.create(name, 10), (), crop_size=28, whitening=True, batch_size=BATCH)
    hparams = training.Hparams(training.root_key(0), *map(jnp.float32, (0.01, 0.95, 0.9, 0.0)))
    data = training.Data(*map(jnp.asarray, (*random_data(), np.zeros(IMAGES, bool))))
    state = jax.eval_shape(partial(training.init, program), hparams, data.images)
    order = jnp.zeros((IMAGES // BATCH, BATCH), jnp.int32)
    lowered = jax.jit(training.train_step, static_argnums=0).lower(program, hparams, data, order, state)
    cost: Any = lowered.cost_analysis()
    return cost["flops"] / BATCH


def work(orders: Any, side: str, name: str) -> None:
    """A side's own process: says how soon it was ready, then for each question its rate over so many seconds."""
    start = time.perf_counter()
    step, images, parameters = {"ours": ours, "pytorch": pytorch}[side](name)
    step()
    orders.send((time.perf_counter() - start, parameters))
    for what, seconds in iter(orders.recv, None):
        orders.send(gemm(seconds) if what == "gemm" else rate(step, images, seconds))


def measure(name: str, seconds: float) -> dict[str, Any]:
    """One row: both rates, turn by turn, each side in a process of its own, for what it asks of malloc is its own."""
    row: dict[str, Any] = {"model": name, "gflop_per_image": flop(name) / 1e9, "gemm": []}
    context, sides = multiprocessing.get_context("spawn"), {}
    for side in ("ours", "pytorch"):
        sides[side], far = context.Pipe()
        context.Process(target=work, args=(far, side, name), daemon=True).start()
        row[f"{side}_seconds_to_first_step"], row[f"{side}_parameters"] = sides[side].recv()
        row[side] = []

    def ask(side: str, what: str, seconds: float) -> float:
        sides[side].send((what, seconds))
        return sides[side].recv()

    assert row["ours_parameters"] == row["pytorch_parameters"], row
    for side in sides:
        ask(side, "rate", seconds / 2)  # warm
    for _ in range(TURNS):
        for side in sides:
            row[side].append(ask(side, "rate", seconds))
        row["gemm"].append(ask("pytorch", "gemm", seconds / 4))
    for side in sides.values():
        side.send(None)
    ratios = [a / b for a, b in zip(row["ours"], row["pytorch"], strict=True)]
    share = [a * row["gflop_per_image"] / b for a, b in zip(row["ours"], row["gemm"], strict=True)]
    return row | {"ratio": statistics.median(ratios), "ratios": ratios, "share": statistics.median(share)}


def table(rows: list[dict[str, Any]]) -> str:
    head = "| model | ours, images/s | PyTorch, images/s | ratio | its range | share of the GEMM limit |"
    lines = [head, "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        rates = (f"{statistics.median(row[side]):,.0f}" for side in ("ours", "pytorch"))
        spread = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        lines.append(f"| {row['model']} | {' | '.join(rates)} | {row['ratio']:.2f} | {spread} | {row['share']:.0%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        rows.append(measure(name, arguments.seconds))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    made_by = {
        "device": cohorts.provenance()["device"],
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "torch": torch.__version__},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "throughput.json").write_text(json.dumps({"made_by": made_by, "rows": rows}, indent=1) + "\n")
    (RESULTS / "throughput.md").write_text(table(rows) + f"\n{made_by['device']}, {made_by['versions']}\n")
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
