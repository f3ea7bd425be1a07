"""The protocol of Neyshabur et al. 2017, and our choices where we differ.

They train a network of the VGG family on 1,000 to 50,000 images of CIFAR-10, with true and with random labels, until it
fits them; and networks with one hidden layer of 8 to 8,000 units on MNIST. Norms are divided by the margin: the fifth
percentile over the training images. In the authors' later code, bneyshabur/generalization-bounds at commit a2034f94,
batches have 64 images, the rate is 0.01 with momentum 0.9, and training ends where the cross-entropy is below 0.01.
Their results are figures.

Our choices:

* An MLP with two hidden layers in place of VGG: spectral, L1,∞ and path norms are of dense layers here.
* Training ends after the first epoch at whose end every training image is classified as its label.
* A measure tells true from random labels if it is larger for random ones with every pair of seeds; of the margin its
  inverse is. It orders test errors as Kendall's τ says, over runs on true labels: 1 is the same order.
* Measures of other papers stand in the same table: the Fisher-Rao norm, magnitude-aware PAC-Bayes sharpness, the
  largest eigenvalue of the Hessian, the effective rank.
* Images are whitened one by one, as in all runs here.
"""

from dataclasses import replace

from rethink_gen.runs import Run, grid

# Measure → what the table calls it.
MEASURES = {
    "margin": "margin, inverse",
    "distance_from_initial": "distance from the first weights",
    "frobenius(over_margin=true)": "Frobenius norms / margin",
    "spectral(over_margin=true)": "spectral norms / margin",
    "l1_max(over_margin=true)": "L1,∞ norms / margin",
    "path(over_margin=true,p=1)": "L1 path norm / margin",
    "path(over_margin=true)": "L2 path norm / margin",
    "spectral_complexity(over_margin=true)": "spectral complexity / margin",
    "spectral_frobenius(over_margin=true)": "spectral-Frobenius / margin",
    "fisher_rao": "Fisher-Rao norm",
    "sharpness": "sharpness",
    "pac_bayes": "PAC-Bayes sharpness",
    "top_eigenvalue": "top Hessian eigenvalue",
    "effective_rank": "effective rank",
}
BASE = Run(
    dataset="mnist",
    batch_size=64,
    epochs=1000,
    learning_rate=0.01,
    schedule="constant",
    stop_at_train_accuracy=1.0,
    measures=tuple(MEASURES),
)


def model(width: int) -> str:
    """Two hidden layers of this width."""
    return f"mlp(hidden={width}+{width})"


def runs(
    base: Run, *, sizes: tuple[int, ...], width: int, widths: tuple[int, ...], size: int, seeds: int
) -> tuple[Run, ...]:
    """True and random labels, for each number of images at one width, and for each width at one number of images."""
    axes = {"corruption": ("true_labels", "random_labels"), "seed": range(seeds)}
    return (
        *grid(replace(base, model=model(width)), train_size=sizes, **axes),
        *grid(replace(base, train_size=size), model=tuple(map(model, widths)), **axes),
    )
