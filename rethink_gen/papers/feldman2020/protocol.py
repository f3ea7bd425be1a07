"""The MNIST protocol of Feldman and Zhang 2020, and our choices where we differ.

Settings are those of the authors' code, mnist-example in google-research/heldout-influence-estimation: an MLP of 512
and 256 hidden units, batches of 128, SGD with a constant learning rate of 0.1 and momentum 0.9, 10 epochs, 2,000 runs,
each on a random 70 % of the images.

Our choices:

* A run takes as many steps as seven epochs of all images have: about ten passes over its subset. Passes follow each
  other without a gap, so no image of the subset is left out.
* Pixels are in [0, 1] and not whitened. First weights are those of He.
* Wrong labels are drawn from the nine others, with one seed for all runs. The authors have none on MNIST.
"""

from dataclasses import replace

from rethink_gen.runs import Run, grid

SUBSET = "subset"  # of 70 % of the images, a random one for each seed
NOISE = 0.2  # of the labels, in the noisy half of the runs
THRESHOLD = 0.25  # an example counts as memorized from here on, as in the paper as we remember it

BASE = Run(
    dataset="mnist",
    model="mlp(hidden=512+256)",
    order=SUBSET,
    learning_rate=0.1,
    learning_rate_decay=1.0,
    epochs=7,
    whitening=False,
    measurements=2,
    record=("correct",),
)


def runs(base: Run, *, true: int, noisy: int) -> tuple[Run, ...]:
    """So many runs on subsets, with true labels and with wrong ones."""
    wrong = replace(base, corruption="uniform_wrong", corruption_level=NOISE, corruption_seed=0)
    return (*grid(base, seed=range(true)), *grid(wrong, seed=range(noisy)))
