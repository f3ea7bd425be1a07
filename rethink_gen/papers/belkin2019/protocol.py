"""The protocols for random features, trees and networks on MNIST of Belkin et al. 2019, and our choices.

Stated: 10,000 training images of MNIST; N random Fourier features with frequencies from N(0, 0.2²), so σ = 5; squared
loss on one-hot labels; of all solutions that fit the labels, the one of least norm; the peak is at N = n = 10,000. The
paper shows figures and no numbers, so nothing here has a number of the paper beside it.

Our choices:

* Features are real, √(2/N) cos(v·x + b) with a random phase b. The paper's are complex exponentials.
* Pixels are in [0, 1], and all 10,000 test images count.
* Ridge regression is ours: the same features and images with five penalties.
* The limit of many features is the kernel machine with the Gaussian kernel of γ = 1/(2σ²) = 0.02.

Trees (Section 4; the settings are those of the code of Curth et al. 2023, alanjeffares/not-double-descent): a forest
without bootstrap samples, √D of D values in a split, first one tree with more and more leaves, then more and more full
trees; boosting of the squared error with 10 leaves, rate 0.85 and √D values in a split, one against the rest, first
more and more rounds, then the mean of more and more such ensembles. Curth et al. have up to 100 trees, 200 rounds and
20 ensembles. Our choices:

* The leaves axis is one tree that grows where impurity falls most. Its beginnings are the trees with fewer leaves.
* Classification trees with the Gini impurity: it equals the squared error of regression on one-hot labels.

Networks (Section 3). Stated, as public reproductions quote the appendix (josch14/double-descent,
songweige/double-descent-pytorch): one hidden layer, 4,000 images, squared loss on one-hot labels, no regularization;
SGD with momentum 0.95, 6,000 epochs, five repetitions, 3,000 to 800,000 parameters. Below the threshold, where
parameters are as many as labels times classes, the rate falls by 10 % after every 500 epochs, and training stops at the
first epoch without an error on the training set. In half of the curves networks below the threshold begin from the
weights of the next smaller one, and the rest of their weights from N(0, 0.1²). Not stated: rate, size of batches and
activation.

Our choices:

* No network begins from another's weights, and there is one protocol for all widths: the same rate and the same epochs
  below and above the threshold. A rule that ends there could make an edge by itself.
* ReLU, and batches of 128, as in both reproductions; the last 32 images of an epoch are left out. Weights from
  N(0, 0.1²) at every width; biases start at zero.
* The loss is the sum over classes. Both reproductions take the mean, so a rate of theirs is a tenth of it here. Our
  0.001 with 6,000 epochs at paper scale is songweige's 0.01; josch14's 0.1 would be 0.01.
* Laptop scale: a third of the epochs at thrice the rate, ten widths, three seeds.
* The first 4,000 images are those of tensorflow-datasets, the same for every seed.

Of the two reproductions, josch14's report sees a peak from scratch with label noise alone. The means of its five
repetitions without noise, read from its vector figure and summed over classes, are 0.63 at width 20, 0.62 at 50 and
0.35 at 100, with training losses of 0.40, 0.03 and 0.004. They get no verdict: its rate and first weights are others.
"""

from rethink_gen.runs import Run, grid

NARROW = (5, 10, 20, 30, 40, 50, 60, 80, 100, 150)  # widths at laptop scale
WIDE = (3, 5, 10, 15, 20, 25, 30, 35, 40, 45, 48, 50, 52, 55, 60, 70, 80, 100, 150, 200, 400, 1000)
INPUTS, CLASSES = 28 * 28, 10
NETWORK = Run(
    dataset="mnist",
    train_size=4000,
    whitening=False,
    loss="squared_error",
    batch_size=128,
    epochs=6000,
    learning_rate=0.001,
    schedule="constant",
    momentum=0.95,
    measurements=40,
)


def networks(*widths: int, seeds: int, faster: int = 1) -> tuple[Run, ...]:
    """Runs of some widths; `faster` divides the epochs, and multiplies the rate."""
    models = tuple(f"mlp(hidden={width},initialization=normal0.1)" for width in widths)
    epochs, rate = NETWORK.epochs // faster, NETWORK.learning_rate * faster
    return grid(NETWORK, epochs=(epochs,), learning_rate=(rate,), model=models, seed=range(seeds))


def threshold(images: int) -> float:
    """The width at which a network has as many parameters as there are labels times classes."""
    return CLASSES * (images - 1) / (INPUTS + 1 + CLASSES)
