"""The loop that one would write in PyTorch for the four networks: the benchmarks set ours beside it.

    pip install -e '.[benchmark]'
    python benchmarks/pytorch_loop.py small_inception --train-size 12800 --test-size 1000    # a grid of CIFAR-10

Images are on the device, are whitened there, and are trained on in batches of 128 by cross-entropy and SGD with
momentum; in channels_last where the network convolves, in bfloat16 under autocast. Eager, or with `torch.compile`
around all that gives the loss, whose gradient it then knows, too.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

BATCH = 128


class Loop:
    """A network and its optimizer.

    Args:
      images: [n, channels, height, width], uint8, on the device.
      labels: [n], int64, beside them.
      mode: of torch.compile; None: eager.
    """

    def __init__(
        self, name: str, images: torch.Tensor, labels: torch.Tensor, precision: str = "float32", mode: str | None = None
    ) -> None:
        self.images, self.labels, self.precision = images, labels, precision
        self.layout: Any = torch.contiguous_format if name.startswith("mlp") else torch.channels_last
        self.model = NETWORKS[name]().to(images.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.loss = torch.compile(self.loss_of, mode=mode) if mode else self.loss_of

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        x = images.float() / 255
        deviation = x.std((1, 2, 3), correction=0, keepdim=True).clamp(min=x[0].numel() ** -0.5)
        x = ((x - x.mean((1, 2, 3), keepdim=True)) / deviation).to(memory_format=self.layout)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.model(x)

    def loss_of(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.logits(images), labels)

    def step(self, index: torch.Tensor) -> None:
        loss = self.loss(self.images[index], self.labels[index])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def accuracy(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        self.model.eval()
        batches = zip(images.split(1000), labels.split(1000), strict=True)
        right = sum(int((self.logits(x).argmax(1) == y).sum()) for x, y in batches)
        self.model.train()
        return right / len(labels)


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


def run(name: str, seed: int, level: float, data: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """One epoch on labels of which a share is drawn at random; evaluated as ours are: both splits, before and after."""
    torch.manual_seed(seed)
    images, labels = data["train"]
    labels = torch.where(torch.rand(len(labels)) < level, torch.randint(10, (len(labels),)), labels)
    loop = Loop(name, images, labels)
    measure = lambda: [loop.accuracy(images, labels), loop.accuracy(*data["test"])]
    measure()
    for index in torch.randperm(len(labels)).split(BATCH):
        if len(index) == BATCH:  # as ours, which leaves out what does not fill one
            loop.step(index)
    print(name, seed, level, measure())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", choices=NETWORKS)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.2, 0.6, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--train-size", type=int)
    parser.add_argument("--test-size", type=int)
    arguments = parser.parse_args()

    from rethink_gen.data import datasets

    data, sizes = datasets.load("cifar10"), {"train": arguments.train_size, "test": arguments.test_size}
    splits = {}
    for split, size in sizes.items():
        images, labels = getattr(data, split)
        images = torch.tensor(images[:size, 2:30, 2:30]).permute(0, 3, 1, 2).contiguous()
        splits[split] = images, torch.tensor(labels[:size]).long()
    for level in arguments.levels:
        for seed in arguments.seeds:
            run(arguments.model, seed, level, splits)


if __name__ == "__main__":
    main()
