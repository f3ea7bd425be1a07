"""The MNIST protocol of Arpit et al. 2017, and our choices where we differ.

Stated: MLPs with two hidden layers of 4,096 ReLU units, SGD with a rate of 0.01, 1,000 epochs. Labels of some training
images are drawn anew (random labels), or the images are replaced by Gaussian noise with the mean and the variance of
the data (random inputs). The results are figures, so verdicts are on sentences.

Our choices:

* At the paper's scale batches of 128 images, a constant rate, and no momentum: the paper states 0.9 for CNNs alone.
* At the laptop scale two layers of 256 units, 1,000 images, batches of 32, momentum 0.9, 100 epochs; experiments say
  where they differ.
* Test images are the validation set.
* Images are whitened one by one, as in all runs here.
"""

from dataclasses import replace

from rethink_gen.registry import canonical
from rethink_gen.runs import Run

BASE = Run(
    dataset="mnist",
    model="mlp(hidden=4096+4096)",
    batch_size=128,
    epochs=1000,
    learning_rate=0.01,
    schedule="constant",
    momentum=0.0,
)
SMALL = replace(
    BASE, model="mlp(hidden=256+256)", train_size=1000, test_size=2000, batch_size=32, epochs=100, momentum=0.9
)
CRITICAL = "critical_sample_ratio"  # the measure, with the paper's box and steps
# Steps of SGD → the measure of loss sensitivity after them.
SENSITIVITY = {steps: canonical("measure", f"sensitivity_gini(steps={steps})") for steps in (10, 30, 100, 300, 1000)}
