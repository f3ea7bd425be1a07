"""The protocol of Bartlett, Foster and Telgarsky 2017, and our choices where we differ.

They train AlexNet on CIFAR-10 with SGD, with true and with random labels, and draw the margins of the training images,
as they are and normalized: divided by the spectral complexity of the network and by the norm of its inputs. Their
results are figures.

Our choices:

* An MLP with two hidden layers in place of AlexNet: spectral norms are of dense layers here.
* MNIST besides CIFAR-10, of which an MLP learns little.
* Training ends after the first epoch at whose end every training image is classified as its label. The rate is
  constant.
* The reference matrices of the spectral complexity are zero. Biases are left out of it.
* A distribution is drawn as its percentiles.
* Images are whitened one by one, as in all runs here.
"""

from rethink_gen.runs import Run

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def margin(percentile: int) -> str:
    """The measure of a percentile of the margins, as it names its column."""
    return f"margin(percentile={percentile})" if percentile != 5 else "margin"


def normalized(percentile: int) -> str:
    """The same of the normalized margins."""
    return f"normalized_{margin(percentile)}"


BASE = Run(
    dataset="cifar10",
    model="mlp(hidden=512+512)",
    batch_size=64,
    epochs=1000,
    learning_rate=0.01,
    schedule="constant",
    stop_at_train_accuracy=1.0,
    measures=tuple(measure(percentile) for measure in (margin, normalized) for percentile in PERCENTILES),
)
