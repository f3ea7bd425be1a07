"""The MNIST protocol of Toneva et al. 2018, and our choices where we differ.

Settings are the defaults of the authors' code, mtoneva/example_forgetting: batches of 64, 200 epochs, SGD with a
constant learning rate of 0.01 and momentum 0.5, 5 seeds; 20 % of the labels wrong where labels are noisy.

Our choices:

* The network is the MLP with one hidden layer of 512 units. The authors train a small convolutional network.
* An example is observed once an epoch, at fixed weights, after the epoch. The authors observe it when it is in a
  minibatch. So all examples are seen by the same network, and an event within an epoch is not seen.
* A wrong label is drawn from the nine others, each with probability 1/9.
* Images are whitened one by one, as in all runs here. The last images of an epoch that fill no batch are left out.
"""

from rethink_gen.runs import Run, grid

BASE = Run(
    dataset="mnist",
    batch_size=64,
    epochs=200,
    learning_rate=0.01,
    learning_rate_decay=1.0,
    momentum=0.5,
    record=("examples",),
)
NOISE = 0.2  # of the labels


def runs(base: Run, seeds: int) -> tuple[Run, ...]:
    """True labels, and 20 % of wrong labels."""
    noisy = grid(base, corruption=("uniform_wrong",), corruption_level=(NOISE,), seed=range(seeds))
    return (*grid(base, seed=range(seeds)), *noisy)
