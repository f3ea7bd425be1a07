"""The protocols of Nakkiran et al. 2019 for CIFAR-10, the numbers that are known, and our choices.

Stated: a 5-layer CNN and a pre-activation ResNet-18, whose convolutions have k, 2k, 4k and 8k channels; k, the width,
up to 64 and more. With label noise p a label is right with probability 1 - p, and else one of the other classes; it
is drawn once. Cross-entropy, batches of 128, no weight decay, no dropout. CNN: SGD without momentum, rate 0.1 / √(1 +
⌊t/512⌋) at step t, 500,000 steps, without augmentation and with. ResNet-18: Adam at a constant 1e-4, 4,000 epochs,
crops of the image padded by 4, flips. Checked with the plan of an independent reproduction, HP2706/ATDL-Group-Work,
"Assignment 2 - Group".

Numbers (values.csv): three widths of the ResNet with 20 % noise, which are points of the curves that the authors
published, as that reproduction tabulates them. And of a third party, Yufei-Gu-451/parameter-wise-double-descent: the
CNN on CIFAR-10 after 100 epochs; we computed them from its files and know neither its rate nor how it draws wrong
labels for certain. So they are drawn beside ours, and get no verdict. The paper itself shows figures.

Our choices:

* Widths are 15 of the paper's 64, and noise 0, 10 and 20 %, of the ResNet also 15 %. One seed, as the paper has.
* Images are whitened one by one; copies of the authors' code take them as they are, or less the mean of the data.
* Convolutions have no bias, because batch norm follows, and first weights are He's (PyTorch: uniform in ±1/√inputs).
  The ResNet has batch norm and ReLU before its last pooling, as in He et al. 2016; in copies of the authors' code it
  has not.
* The CNN is without augmentation.
* The last 80 images of an epoch are left out, so 500,000 steps are 1,282 epochs.
* Laptop scale: the CNN on the central 16×16 pixels of 4,000 digits of MNIST, batches of 64 and 80 epochs, 4,960
  steps; rate and noise as above. Of 1,000 digits a network of width 2 fits every label, and one of width 1 is too
  small to be good: the peak has no left side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rethink_gen import papers, registry
from rethink_gen.runs import Run, grid

if TYPE_CHECKING:
    import pandas as pd

WIDTHS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64)
NOISY, CLEAN = (1, 2, 3, 4, 6, 8, 12), (1, 2, 4, 8)  # widths at laptop scale
THEIRS = "Gu, 100 epochs"

CNN = Run(
    crop_size=32,  # whole images
    corruption="uniform_wrong",
    batch_size=128,
    epochs=1282,
    learning_rate=0.1,
    schedule="inverse_sqrt(period=1.3128)",  # 512 steps of 390 an epoch
    momentum=0.0,
)
RESNET = Run(
    crop_size=32,
    corruption="uniform_wrong",
    augmentations=("random_crop(padding=4)", "flip"),
    batch_size=128,
    epochs=4000,
    optimizer="adam",
    learning_rate=1e-4,
    schedule="constant",
)
SMALL = Run(
    dataset="mnist",
    train_size=4000,
    test_size=2000,
    crop_size=16,
    corruption="uniform_wrong",
    batch_size=64,
    epochs=80,
    learning_rate=0.1,
    schedule="inverse_sqrt(period=8.2581)",  # 512 steps of 62 an epoch
    momentum=0.0,
    measurements=30,
)


def cnn(widths: tuple[int, ...]) -> tuple[str, ...]:
    """The 5-layer networks of some widths."""
    return tuple(f"mcnn(width={width})" for width in widths)


def runs() -> tuple[Run, ...]:
    """Paper scale: both families at each width and level of noise."""
    resnets = tuple(f"preact_resnet_18(width={width})" for width in WIDTHS)
    return (
        *grid(CNN, model=cnn(WIDTHS), corruption_level=(0.0, 0.1, 0.2)),
        *grid(RESNET, model=resnets, corruption_level=(0.0, 0.1, 0.15, 0.2)),
    )


def small_runs(noisy: tuple[int, ...] = NOISY, clean: tuple[int, ...] = CLEAN) -> tuple[Run, ...]:
    """Laptop scale: the CNN of some widths with 20 % noise, and of some without."""
    return (
        *grid(SMALL, model=cnn(noisy), corruption_level=(0.2,)),
        *grid(SMALL, model=cnn(clean), corruption_level=(0.0,)),
    )


def third_party() -> pd.DataFrame:
    """The third party's errors of the CNN with 20 % noise, by width; a column for each metric."""
    table = papers.values("cnn_epoch_100", "nakkiran2019").query("corruption_level == 0.2")
    width = [registry.options_of("model", model)["width"] for model in table["model"]]
    accuracies = table.assign(width=width).pivot(index="width", columns="metric", values="value").astype(float)
    return (1 - accuracies).rename(columns=lambda name: name.replace("accuracy", "error"))
