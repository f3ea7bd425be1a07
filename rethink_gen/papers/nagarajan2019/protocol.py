"""The MNIST protocol of Nagarajan and Kolter 2019, and our choices where we differ.

Settings are those of the paper's Section 2 and of the authors' code, locuslab/uniform-convergence-NeurIPS19 at commit
806d0255: five hidden layers of 1,024 ReLU units without biases, Glorot's initialization, SGD without momentum at a
constant rate of 0.1, batches of 64, on 128 and more images of MNIST. Training ends once 99 % of the training images
have a margin of at least 10. Their results are figures.

Our choices:

* No rule ends training at a margin. The number of epochs is chosen for each number of images, by short trials, so that
  the first percentile of the margins, γ, ends near the same value for all; γ is measured, and bounds are of this γ.
* The loss is softmax cross-entropy; in their code it is that of ten sigmoids.
* The layers have biases, which no bound here counts.
* A bound is a norm over γ √n. Constants, logarithms, the size of the inputs and factors of width and depth are left
  out: they are the same for all n.
* The norm of the bound of Bartlett et al. sums over units what enters each, as they have it; in the authors' code it
  sums what leaves each.
* Images are whitened one by one, as in all runs here.
"""

from dataclasses import replace

from rethink_gen.runs import Run, grid

GAMMA = "margin(percentile=1)"
DISTANCE = "distance_from_initial"
NEYSHABUR, BARTLETT = "spectral_frobenius", "spectral_complexity(from_initial=true)"
# Images → epochs.
EPOCHS = {128: 300, 256: 250, 512: 200, 1024: 150, 2048: 100, 4096: 80, 8192: 50, 16384: 30, 32768: 20, 60000: 15}
BASE = Run(
    dataset="mnist",
    batch_size=64,
    learning_rate=0.1,
    momentum=0.0,
    schedule="constant",
    measurements=5,
    measures=(GAMMA, DISTANCE, "spectral", NEYSHABUR, BARTLETT),
)


def runs(base: Run, width: int, sizes: tuple[int, ...], seeds: int) -> tuple[Run, ...]:
    """Five hidden layers of this width on each number of images."""
    model = f"mlp(hidden={'+'.join([str(width)] * 5)},initialization=glorot)"
    of_size = (replace(base, model=model, train_size=size, epochs=EPOCHS[size]) for size in sizes)
    return tuple(run for each in of_size for run in grid(each, seed=range(seeds)))
