"""The loop that one would write in PyTorch for very many small networks, one after the other; see many_runs.py.

    python benchmarks/pytorch_many.py mnist.npz 0 100 1    # data, first seed, end, threads

Images are whitened once, before all runs. A run draws its wrong labels, its subset and its order of images, trains an
MLP 784-128-10, and leaves its accuracies in a file of its own.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

BATCH, EPOCHS, NOISE, SHARE = 128, 10, 0.2, 0.7


def whitened(images: np.ndarray) -> torch.Tensor:
    """float32[N, H·W] of uint8[N, H, W, 1]."""
    x = torch.from_numpy(images).flatten(1).float() / 255
    x -= x.mean(1, keepdim=True)
    return x / x.std(1, correction=0, keepdim=True).clamp(min=x.shape[1] ** -0.5)


def run(
    seed: int, train: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, float]:
    """Trains one network; its accuracies."""
    torch.manual_seed(seed)
    (images, labels), size = train, len(train[1])
    wrong = (labels + torch.randint(1, 10, (size,))) % 10
    labels = torch.where(torch.rand(size) < NOISE, wrong, labels)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    subset = torch.randperm(size)[: round(SHARE * size)]
    steps = EPOCHS * (size // BATCH)
    passes = -(-steps * BATCH // len(subset))
    order = torch.cat([subset[torch.randperm(len(subset))] for _ in range(passes)])
    for index in order[: steps * BATCH].view(steps, BATCH):
        loss = nn.functional.cross_entropy(model(images[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = {
            name: (model(x).argmax(1) == y).float().mean()
            for name, x, y in (("train", images, labels), ("test", *test))
        }
    return {name: float(value) for name, value in right.items()}


def main() -> None:
    path, first, end, threads = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(threads)
    with np.load(path) as file:
        train, test = ((whitened(file[x]), torch.from_numpy(file[y]).long()) for x, y in (("x", "y"), ("xt", "yt")))
    for seed in range(first, end):
        found = run(seed, train, test)
        Path(path).with_name(f"{seed}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
