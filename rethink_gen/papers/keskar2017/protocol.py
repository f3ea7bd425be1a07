"""The protocol of Keskar et al. 2017 for F1 on MNIST and C1 on CIFAR-10, and our choices where we differ.

Stated: F1, five batch-normalized layers of 512 ReLU units; C1, see `models/families/cnn.py`, with a dropout rate of
one half after its hidden layers; ADAM; a small batch is 256, a large one a tenth of the training
set; five runs of each; sharpness as the largest loss in a box of size ε(|x| + 1), after ten iterations of L-BFGS-B, in
all dimensions and in a random subspace of 100. Of the authors' code, which has the other networks
(keskarnitish/large-batch-training): 20 epochs, ADAM with its defaults (0.001), pixels in [0, 1], batch norm before each
ReLU.

Our choices:

* Batch norm keeps running statistics, and is tested and measured with them. In the authors' code it takes those of the
  batch, in tests too.
* He initialization; its variance is not stated.
* The search for the largest loss begins at the weights (see `measures.sharpness`).
* C1 is trained for 100 epochs; in 20 its large batches take 200 steps, too few with dropout. It is not augmented.
* The last images of an epoch that fill no batch are left out.
"""

from dataclasses import replace

from rethink_gen.runs import Run, grid

SHARPNESS = (
    *("sharpness", "sharpness(dimensions=100)"),
    *("sharpness(epsilon=0.0005)", "sharpness(dimensions=100,epsilon=0.0005)"),
)
BASE = Run(
    dataset="mnist", whitening=False, model="keskar_f1", optimizer="adam", learning_rate=0.001, schedule="constant",
    epochs=20, measurements=6, measures=("distance_from_initial", *SHARPNESS),
)  # fmt: skip
C1 = replace(BASE, dataset="cifar10", crop_size=32, model="keskar_c1", dropout=0.5, epochs=100)


def runs(base: Run, small: int, large: int, seeds: int) -> tuple[Run, ...]:
    """Small and large batches."""
    return grid(base, batch_size=(small, large), seed=range(seeds))
