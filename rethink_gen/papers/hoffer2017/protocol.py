"""The protocol of Hoffer et al. 2017, and our choices where we differ.

Small batches (SB) of 128 are compared with large ones (LB) of 4,096, and with large ones that are given in turn:

* +LR: the rate of small batches times √(large / small);
* +GBN: also ghost batch norm, with statistics over as many examples as a small batch has;
* +RA: also regime adaptation: all epochs times large / small, so that the number of steps is that of small batches.

Stated in the authors' code (eladhoffer/bigBatch), and ours: F1 and C1 of Keskar et al. 2017 and ResNet-44; SGD with
momentum 0.9 and weight decay 0.0001 on all weights; the rate 0.1, a tenth of it after 10, 20 and 30 of 50 epochs, for
ResNet-44 after 81, 122 and 164; C1 for 200 epochs; gradients clipped to the norm 5 in all rows, which the paper says of
the larger rates.

Our choices:

* F1 sees pixels in [0, 1] and no augmentation. The authors' code crops and flips the digits.
* ResNet-44 is trained for 200 epochs; their script has 100, before which two of its three decays come.
* Its large batches are of 4,096, too; their script has 2,048. Its images are whitened one by one.
* C1 has the schedule and the augmentation of ResNet-44, and a dropout rate of one half, as in Keskar et al. 2017.
* He initialization.
* The running statistics of batch norm keep 0.9 of themselves at each batch or ghost batch.
* The last images of an epoch that fill no batch are left out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rethink_gen.papers.keskar2017.protocol import BASE as KESKAR
from rethink_gen.runs import Run, grid

F1 = replace(
    KESKAR, optimizer="sgd(decay_biases=true)", learning_rate=0.1, weight_decay=1e-4, max_gradient_norm=5,
    batch_size=128, epochs=50, schedule="step(at=10+20+30)", measurements=12, measures=(),
)  # fmt: skip
RESNET = replace(
    F1, dataset="cifar10", crop_size=32, whitening=True, model="resnet_44",
    augmentations=("random_crop(padding=4)", "flip"), epochs=200, schedule="step(at=81+122+164)",
)  # fmt: skip
C1 = replace(RESNET, model="keskar_c1", dropout=0.5)
Runs = dict[str, tuple[Run, ...]]  # regime → its runs
REGIMES = ("SB", "LB", "+LR", "+GBN", "+RA")


def regimes(small: Run, large: int) -> dict[str, Run]:
    """Regime → a run.

    Args:
      small: the run with small batches.
      large: the size of large batches, a multiple of the small one.
    """
    ratio = large // small.batch_size
    lb = replace(small, batch_size=large)
    lr = replace(lb, learning_rate=small.learning_rate * ratio**0.5)
    gbn = replace(lr, model=f"{small.model}(ghost_batch={small.batch_size})")
    ra = replace(gbn, epochs=ratio * small.epochs, schedule=prolonged(small.schedule, ratio))
    return dict(zip(REGIMES, (small, lb, lr, gbn, ra), strict=True))


def prolonged(schedule: str, ratio: int) -> str:
    """A `step` schedule with all its epochs times a ratio; a constant one as it is."""
    name, _, inside = schedule.removesuffix(")").partition("(at=")
    epochs = [int(epoch) for epoch in inside.split("+") if epoch]
    return f"{name}(at={'+'.join(str(ratio * epoch) for epoch in epochs)})" if epochs else schedule


def grids(of_regimes: Mapping[str, Run], **axes: Any) -> Runs:
    """The grid of each regime."""
    return {regime: grid(run, **axes) for regime, run in of_regimes.items()}


def every(runs: Runs) -> tuple[Run, ...]:
    """The runs of all regimes."""
    return sum(runs.values(), start=())


def regime_of_each(*scales: Runs) -> dict[str, str]:
    """Id of a run → its regime."""
    return {run.id: regime for runs in scales for regime, each in runs.items() for run in each}
