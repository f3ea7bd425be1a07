"""The MNIST protocol of Gu et al. 2024, and our choices where we differ.

Numbers and settings are those of the authors' repository, Yufei-Gu-451/parameter-wise-double-descent: the folder
assets/MNIST/N=4000-3D/TEST-1, means over 10 models at epoch 4,000, and mnist_dd_exp.py at commit 8d590f44. The paper
itself shows figures. Settings: the first 4,000 training images of MNIST, pixels in [0, 1]; the labels of 800 of them
drawn uniformly from all classes, so that 18 % are wrong; one hidden layer of ReLU units; weights from N(0, 0.1²), for
width 1 from Glorot's uniform distribution; cross-entropy; SGD without momentum, batches of 64, 4,000 epochs; a learning
rate of 0.05 / √(1 + ⌊epoch / 50⌋), set anew after every 100 epochs. Later versions of the code have a rate of 0.1. The
data of TEST-1 are of 0.05: their training accuracy after 100 epochs at width 100 is 92.2 %; we measured 91.5 % with a
rate of 0.05, and 98.7 % with 0.1.

Their training accuracy is over the minibatches of an epoch, while the weights change; ours beside it is
`running_accuracy`.

Our choices:

* Each of the 4,000 labels is drawn anew with probability 0.2. The authors draw exactly 800.
* The first 4,000 images are those of tensorflow-datasets, whose order differs from that of the original files.
* Biases start at zero (PyTorch: uniform in ±1/√inputs), and the last 32 images of each epoch are left out.
* Seeds: 3, each with label noise of its own. The authors have 10 models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rethink_gen import papers
from rethink_gen.runs import Run, grid

if TYPE_CHECKING:
    import pandas as pd

NARROW = (1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 25, 30, 40, 50, 60, 80, 100)
WIDE = (150, 200, 400, 600, 800, 1000)
THEIRS = "Gu et al. 2024"


def model(width: int) -> str:
    """The network of a width, with the authors' first weights."""
    return f"mlp(hidden={width},initialization={'glorot' if width == 1 else 'normal0.1'})"


BASE = Run(
    dataset="mnist",
    train_size=4000,
    whitening=False,
    corruption="random_labels",
    corruption_level=0.2,
    batch_size=64,
    epochs=4000,
    learning_rate=0.05,
    schedule="inverse_sqrt(period=100,growth=2)",  # 1 + ⌊epoch / 50⌋ at the multiples of 100
    momentum=0.0,
    measurements=40,
)


def runs(*widths: int, seeds: int) -> tuple[Run, ...]:
    """The runs of some widths, each with so many seeds."""
    return grid(BASE, model=tuple(map(model, widths)), seed=range(seeds))


def their_numbers() -> pd.DataFrame:
    """The authors' numbers, a column for each metric, by width."""
    table = papers.values("mnist_widths", "gu2024")
    width = table["model"].str.extract(r"hidden=(\d+)", expand=False).astype(int)
    return table.assign(width=width).pivot(index="width", columns="metric", values="value").astype(float)
