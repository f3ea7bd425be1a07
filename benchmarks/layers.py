"""Where a step of training spends its time, layer by layer, ours beside PyTorch's (oneDNN), on one thread.

    pip install -e '.[benchmark]'
    python benchmarks/layers.py                 # benchmarks/results/layers.*

For each network: a whole step on 128 images, and each distinct layer alone: its forward pass and its gradients. "The
rest" is what a step takes beyond them: the input, concatenation, the loss, the optimizer, copies between layers. All
are CPU seconds, which other work on the machine changes little. Each side has its own process, and the two take turns.
The tables have the median of TURNS turns. The parts `tried` and `steps` compute convolutions in other ways.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("NPROC", "1")  # threads of XLA; jax reads it when it is loaded

import convolutions
import flax.linen as nn
import jax
import numpy as np
import parts
import throughput
import torch
from pytorch_loop import BATCH, NETWORKS

from rethink_gen.execution import machine
from rethink_gen.models import layers
from rethink_gen.training import compilation

TURNS, SECONDS = 5, 0.1  # at least so much CPU time for one pass of one layer in one turn
OURS, PYTORCH = SIDES = ("ours", "PyTorch")
STEP = "step"
FORWARD, INPUT, WEIGHTS, GRADIENTS = "forward", "input gradient", "weight gradient", "gradients"
CONVOLUTION, DENSE, NORM, POOL, RESPONSE = "convolution", "dense layer", "batch norm with ReLU", "max pooling", "LRN"

Call = Callable[[], Any]


class Layer(NamedTuple):
    """A layer on BATCH images; convolutions and dense layers have no bias here."""

    kind: str
    shape: tuple[int, ...]  # of the input without the batch: (H, W, C) or (C,)
    channels: int = 0  # of the output, if it has weights
    size: int = 0  # of the kernel along H and W
    stride: int = 1
    first: bool = False  # whether its input is the image, which needs no gradient

    @property
    def output(self) -> tuple[int, ...]:
        pixels = (-(-size // self.stride) for size in self.shape[:-1])
        return (*pixels, self.channels or self.shape[-1])

    @property
    def kernel(self) -> tuple[int, ...]:
        return (*[self.size] * (len(self.shape) - 1), self.shape[-1], self.channels)

    @property
    def passes(self) -> tuple[str, ...]:
        if not self.channels:
            return (FORWARD, GRADIENTS)
        return (FORWARD, WEIGHTS) if self.first else (FORWARD, INPUT, WEIGHTS)

    @property
    def flop(self) -> int:
        """Multiplications and additions of one pass, at the border, too; 0 if the layer has no weights."""
        return 2 * BATCH * int(np.prod([*self.output[:-1], *self.kernel]))

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape))
        if not self.channels:
            return f"{self.kind}, {shape}"
        size = f"{self.size}×{self.size} " if self.size else ""
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{size}{self.kind}, {shape} to {self.channels}{stride}"


def layers_of(name: str) -> Counter[Layer]:
    """Each distinct layer of a network, and how often it occurs in it."""
    found: Counter[Layer] = Counter()

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        channels, *pixels = inputs[0].shape[1:]
        shape, first = (*pixels, channels), not found
        match module:
            case torch.nn.Conv2d():
                size, stride = module.kernel_size[0], module.stride[0]
                found[Layer(CONVOLUTION, shape, module.out_channels, size, stride, first)] += 1
            case torch.nn.Linear():
                found[Layer(DENSE, shape, module.out_features, first=first)] += 1
            case torch.nn.BatchNorm2d():
                found[Layer(NORM, shape)] += 1
            case torch.nn.MaxPool2d():
                found[Layer(POOL, shape, stride=2)] += 1
            case torch.nn.LocalResponseNorm():
                found[Layer(RESPONSE, shape)] += 1

    model = NETWORKS[name]()
    for module in model.modules():
        module.register_forward_hook(note)
    model(torch.zeros(2, 3, 28, 28))
    return found


def arrays(layer: Layer) -> tuple[np.ndarray, ...]:
    """The input, the gradient of the output and, if the layer has any, the weights or the offset."""
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = [(BATCH, *layer.shape), (BATCH, *layer.output)]
    if layer.channels:
        shapes.append(layer.kernel)
    if layer.kind == NORM:
        shapes.append(layer.shape[-1:])
    return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)


def our_function(layer: Layer) -> Callable[..., jax.Array]:
    """The layer as the package computes it, of its input and its weights."""
    if layer.kind == NORM:
        return lambda x, offset: layers._batch_norm_relu(x, offset, 1e-3)[0]
    if layer.kind in (POOL, RESPONSE):
        return {POOL: layers.max_pool, RESPONSE: layers.local_response_normalization}[layer.kind]
    module: Any = nn.Dense(layer.channels, use_bias=False)
    if layer.kind == CONVOLUTION:
        window, stride = (layer.size, layer.size), (layer.stride, layer.stride)
        module = nn.Conv(layer.channels, window, stride, use_bias=False)
    return lambda x, w: module.apply({"params": {"kernel": w}}, x)


def our_passes(layer: Layer, options: Any, function: Callable[..., jax.Array] | None = None) -> dict[str, Call]:
    """Compiles each pass of the layer.

    Args:
      options: of the compiler.
      function: another way to compute the layer; None: that of the package.
    """
    jit = partial(jax.jit, compiler_options=options)
    x, dy, *weights = map(jax.numpy.asarray, arrays(layer))
    given = (x, *weights)
    function = function or our_function(layer)
    keeping = jit(lambda *given: jax.vjp(function, *given))
    _, pull = keeping(*given)
    of_pass = {
        FORWARD: (jit(function) if layer.channels else keeping, given),  # what has weights keeps its input alone
        INPUT: (jit(lambda pull, dy: pull(dy)[0]), (pull, dy)),
        WEIGHTS: (jit(lambda pull, dy: pull(dy)[1]), (pull, dy)),
        GRADIENTS: (jit(lambda pull, dy: pull(dy)), (pull, dy)),
    }
    return {name: partial(_done, *of_pass[name]) for name in layer.passes}


def _done(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    jax.block_until_ready(function(*arguments))


def pytorch_function(layer: Layer) -> Callable[..., torch.Tensor]:
    """The layer as the loop of pytorch_loop.py computes it, of its input and its weights."""
    norm = torch.nn.BatchNorm2d(layer.shape[-1], eps=1e-3, affine=False)
    functions: dict[str, Callable[..., torch.Tensor]] = {
        CONVOLUTION: partial(torch.conv2d, stride=layer.stride, padding=layer.size // 2),
        DENSE: torch.nn.functional.linear,
        NORM: lambda x, offset: torch.relu(norm(x) + offset.view(-1, 1, 1)),
        POOL: torch.nn.MaxPool2d(3, 2, padding=1),
        RESPONSE: torch.nn.LocalResponseNorm(9, 0.001, 0.75, 1.0),
    }
    return functions[layer.kind]


def pytorch_passes(layer: Layer) -> dict[str, Call]:
    """Prepares each pass of the layer, with images and kernels in channels_last."""
    x, dy, *weights = map(_tensor, arrays(layer))
    if weights and layer.channels:  # ours are [..., inputs, outputs]
        inverse = (3, 2, 0, 1) if layer.kind == CONVOLUTION else (1, 0)
        weights = [_contiguous(torch.from_numpy(arrays(layer)[2]).permute(inverse))]
    given = [each.requires_grad_() for each in (x, *weights)]
    function = pytorch_function(layer)
    y = function(*given)
    gradient = partial(torch.autograd.grad, y, grad_outputs=dy, retain_graph=True)
    of_pass: dict[str, Call] = {
        FORWARD: lambda: function(*given),
        INPUT: lambda: gradient(given[:1]),
        WEIGHTS: lambda: gradient(given[1:]),
        GRADIENTS: lambda: gradient(given),
    }
    return {name: of_pass[name] for name in layer.passes}


def _tensor(array: np.ndarray) -> torch.Tensor:
    """The array, of which images are [B, C, H, W] to PyTorch, in channels_last."""
    tensor = torch.from_numpy(array)
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _contiguous(weights: torch.Tensor) -> torch.Tensor:
    return weights.contiguous(memory_format=torch.channels_last if weights.ndim == 4 else torch.contiguous_format)


def start(side: str) -> None:
    """Prepares the process of a side."""
    torch.set_num_threads(1)
    if side == OURS:
        machine.keep_memory()


@lru_cache(maxsize=1)
def prepared(side: str, network: str, layer: Layer | None) -> dict[str, tuple[Call, int]]:
    """What is measured of a layer or, for None, of a step: what to call, and how many passes or steps a call takes."""
    if layer is None:
        step, images, _ = (
            throughput.ours(network, "float32", 1) if side == OURS else throughput.pytorch(network, "float32", None)
        )
        calls = {STEP: (step, images // BATCH)}
    else:
        options = None if network.startswith("mlp") else compilation._cpu_options()
        passes = our_passes(layer, options) if side == OURS else pytorch_passes(layer)
        calls = {name: (call, 1) for name, call in passes.items()}
    for call, _ in calls.values():
        call()  # compiles
    return calls


def turn(side: str, network: str, layer: Layer | None) -> dict[str, float]:
    """CPU seconds of each pass of a layer, or of a step, in one turn."""
    return {name: cpu_seconds(call) / count for name, (call, count) in prepared(side, network, layer).items()}


def cpu_seconds(call: Call) -> float:
    """CPU seconds of a call: the mean over SECONDS."""
    begun, count = time.process_time(), 0
    while (passed := time.process_time() - begun) < SECONDS:
        call()
        count += 1
    return passed / count


def process(side: str) -> ProcessPoolExecutor:
    """A side's own process, for what it asks of malloc is its own."""
    return ProcessPoolExecutor(1, get_context("spawn"), start, (side,))


def measured(network: str) -> list[dict[str, Any]]:
    """A row for the step of a network, and one for each pass of each layer."""
    rows = []
    with process(OURS) as one, process(PYTORCH) as other:
        of_side = {OURS: one, PYTORCH: other}
        for layer, times in {None: 1, **layers_of(network)}.items():
            turns = [
                {side: worker.submit(turn, side, network, layer).result() for side, worker in of_side.items()}
                for _ in range(TURNS)
            ]
            about = {"layer": str(layer or STEP), "times": times}
            for name in turns[0][OURS]:
                seconds = {side: [each[side][name] for each in turns] for side in SIDES}
                rows.append({**about, "pass": name, "flop": layer.flop if layer else 0, **seconds})
    return rows


def tried() -> list[dict[str, Any]]:
    """A row for each pass of some convolutions of the small Inception, computed in other ways."""
    with process(OURS) as worker:
        return [row for layer in TRIED for row in worker.submit(ways_of, layer).result()]


def ways_of(layer: Layer) -> list[dict[str, Any]]:
    """The same for one convolution, in turns, with the functions and with options of the compiler."""
    ours = compilation._cpu_options()
    options = {
        "as in the package": ours,
        "XLA's other library": None,
        "XLA's option for oneDNN": {**ours, ONEDNN: True},
    }
    ways = {way: our_passes(layer, option) for way, option in options.items()}
    for function, way in convolutions.WAYS.items():
        if (layer.size == 1) == (function is convolutions.matrix_product):
            convolutions.check(function, *arrays(layer))
            ways[way] = our_passes(layer, ours, function)
    taken: dict[tuple[str, str], list[float]] = {(way, name): [] for way, calls in ways.items() for name in calls}
    for _ in range(1 + TURNS):  # the first compiles
        for way, name in taken:
            taken[way, name].append(cpu_seconds(ways[way][name]))
    return [
        {"layer": str(layer), "flop": layer.flop, "way": way, "pass": name, "seconds": each[1:]}
        for (way, name), each in taken.items()
    ]


def steps() -> list[dict[str, Any]]:
    """A row for each way to compute the convolutions in a whole step of the small Inception."""
    with process(OURS) as worker:
        return worker.submit(steps_in_turns).result()


def steps_in_turns() -> list[dict[str, Any]]:
    ways: dict[str, dict[int, Any]] = {"as in the package": {}}
    ways["1×1 as products of matrices"] = {1: convolutions.matrix_product}
    ways["the same, and weight gradients of 3×3 with swapped roles"] = {
        1: convolutions.matrix_product,
        3: convolutions.swapped,
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    compiled = {way: step_with(functions) for way, functions in ways.items()}
    for _ in range(TURNS):
        for way, step in compiled.items():
            taken[way].append(cpu_seconds(step))
    return [{"way": way, "seconds": seconds} for way, seconds in taken.items()]


def step_with(functions: Mapping[int, Any]) -> Call:
    """A compiled step whose convolutions, by the size of their kernel, are computed by these functions."""

    def replace(next_function: Callable[..., Any], arguments: Any, options: Any, context: Any) -> Any:
        module = context.module
        if not isinstance(module, nn.Conv) or module.is_initializing():
            return next_function(*arguments, **options)
        kernel, (x,) = module.variables["params"]["kernel"], arguments
        stride = jax.tree.leaves(module.strides)[0]
        if stride > 1 or x.shape[-1] == 3 or len(kernel) not in functions:
            return next_function(*arguments, **options)
        return functions[len(kernel)](x, kernel)

    jax.clear_caches()
    compilation.jit.cache_clear()
    step, _, _ = throughput.ours("small_inception", "float32", 1)
    with nn.intercept_methods(replace):
        step()
    return step


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    pages = {"tried": page_of_ways, "steps": page_of_steps}
    return "\n".join(
        "\n".join([f"## {name}", "", *pages.get(name, page_of_layers)(part["rows"]), "", part["made_by"], ""])
        for name, part in found.items()
    )


def page_of_layers(rows: list[dict[str, Any]]) -> list[str]:
    """Sums over the layers of each kind, then each layer."""

    def cells(rows: list[dict[str, Any]]) -> str:
        mine, its = (sum(row["times"] * median(row[side]) for row in rows) for side in SIDES)
        rates = [sum(row["times"] * row["flop"] for row in rows) / seconds / 1e9 for seconds in (mine, its)]
        told = " | ".join(f"{rate:.0f}" if rate else "" for rate in rates)
        return f"{1000 * mine:.1f} | {1000 * its:.1f} | {1000 * (mine - its):+.1f} | {told} |"

    head = "ours, CPU ms a step | PyTorch | difference | ours, GFLOP/s | PyTorch |"
    step, *parts = rows
    kinds = dict.fromkeys((_kind(row), row["pass"]) for row in parts)
    lines = [f"| a step | pass | {head}", "|---|---|" + "--:|" * 5, f"| the whole | | {cells([step])}"]
    lines += [
        f"| {' | '.join(each)} | {cells([row for row in parts if (_kind(row), row['pass']) == each])}" for each in kinds
    ]
    rest = [1000 * (median(step[side]) - sum(row["times"] * median(row[side]) for row in parts)) for side in SIDES]
    lines.append(f"| the rest | | {rest[0]:.1f} | {rest[1]:.1f} | {rest[0] - rest[1]:+.1f} | | |")
    lines += ["", f"| layer | times | pass | {head}", "|---|--:|---|" + "--:|" * 5]
    return lines + [f"| {row['layer']} | {row['times']} | {row['pass']} | {cells([row])}" for row in parts]


def _kind(row: dict[str, Any]) -> str:
    """The kind of a layer and, of a convolution, the size of its kernel."""
    return row["layer"].partition(",")[0]


def page_of_ways(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"| layer | way | {FORWARD}, CPU ms | {INPUT} | {WEIGHTS} |", "|---|---|--:|--:|--:|"]
    for layer, way in dict.fromkeys((row["layer"], row["way"]) for row in rows):
        of_way = [row for row in rows if (row["layer"], row["way"]) == (layer, way)]
        cells = " | ".join(f"{1000 * median(row['seconds']):.1f}" for row in of_way)
        lines.append(f"| {layer} | {way} | {cells} |")
    return lines


def page_of_steps(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| convolutions | a step of the small Inception, CPU s | its range |", "|---|--:|--:|"]
    for row in rows:
        seconds = row["seconds"]
        lines.append(f"| {row['way']} | {median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} |")
    return lines


TRIED = (
    Layer(CONVOLUTION, (28, 28, 96), 32, 1),
    Layer(CONVOLUTION, (28, 28, 64), 48, 3),
    Layer(CONVOLUTION, (14, 14, 160), 64, 3),
    Layer(CONVOLUTION, (7, 7, 336), 160, 3),
)
ONEDNN = "xla_cpu_experimental_onednn_custom_call"

if __name__ == "__main__":
    networks = {name: partial(measured, name) for name in NETWORKS}
    parts.measure(__doc__, "layers", {**networks, "tried": tried, "steps": steps}, page)
