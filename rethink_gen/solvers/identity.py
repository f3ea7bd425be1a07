"""Learn the identity from one image: which function of all images does a network find?

A network maps images to images, and gradient descent with all training images in a batch minimizes the mean squared
error between output and input. Many functions do this on one image: the identity, which answers any
image with itself; the constant, which answers it with the training image; and whatever is between. What the network
found is seen on images that it was not given: those of the test set, and noise, uniform in [0, 1] for each value.
Images are divided by 255, whole and not whitened.

Of one dense layer the solution is known. Gradient descent moves its weights along the training image alone, so that
it answers x with the projection of x on the training image, and, of the rest of x, with what the first weights make of
it: neither the identity nor the constant.

References:
  Zhang, Bengio, Hardt, Mozer and Singer 2020, "Identity crisis: memorization and generalization under extreme
  overparameterization". Dense layers and convolutions that keep the size of an image, with ReLU between them, are the
  paper's. Our choices: the size 3×3 of kernels, biases, He initialization, plain gradient descent.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen import memory
from rethink_gen.data import corruptions, randomness
from rethink_gen.data.dataset import Dataset
from rethink_gen.errors import UsageError
from rethink_gen.models.families.blocks import Conv
from rethink_gen.models.mlp import MLP
from rethink_gen.results.result import Curves
from rethink_gen.runs import IdentityRun

Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress
_PART = 100  # images of which outputs are computed at once: of all test images they might not fit into memory


class _Network(nn.Module):
    """Maps images float32[B, H, W, C] to the same shape."""

    kind: str  # dense or convolutional
    layers: int
    units: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.kind == "dense":
            return MLP(x[0].size, hidden=(self.units,) * (self.layers - 1))(x).reshape(x.shape)
        channels = x.shape[-1]
        for _ in range(self.layers - 1):
            x = nn.relu(Conv(self.units, use_bias=True)(x))
        return Conv(channels, use_bias=True)(x)


def solve(run: IdentityRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Trains a network to return the training images, and measures what it returns for other images.

    Args:
      run: names the network, and how long it is trained.
      dataset: images uint8 or float32[n, H, W, C]; labels are not used.
      tick: called with the progress; it may raise to stop.

    Returns:
      Curves with a row before training and after 1, 2, 4, 8, … steps, and facts for provenance. An epoch is a step. For
      each kind of images, test and noise, means over them:

      * test_to_input: Pearson's correlation of the output with the input; 1 for the identity;
      * test_to_trained: of the output with the training image, the first if there are several; 1 for the constant;
      * test_error_to_input, test_error_to_trained: the mean squared errors between the same;

      and train_loss, the mean squared error on the training images.

    Raises:
      UsageError: labels are to be corrupted, training diverges, or the network does not fit into memory.
    """
    if run.corruption in corruptions.OF_LABELS and run.corruption != "true_labels":
        raise UsageError(
            f"{run.corruption} changes labels, which an IdentityRun does not use; corrupt images or nothing"
        )
    train, test = (jnp.asarray(split.images, jnp.float32) / 255 for split in (dataset.train, dataset.test))
    key = randomness.root_key(run.seed)
    noise = jax.random.uniform(randomness.stream(key, "noise"), test.shape)
    network = _Network(run.network, run.layers, run.units)
    _check_memory(run, network, train)
    weights = jax.jit(network.init)(randomness.stream(key, "init"), train[:1])
    curves: Curves = {}
    row: dict[str, float | None] = {}
    for step in range(run.steps + 1):
        if step in (0, run.steps) or step.bit_count() == 1:  # powers of two
            loss = float(_loss(network, weights, train))
            if not np.isfinite(loss):
                raise UsageError("gradient descent diverges; set a smaller learning_rate")
            row = {"train_loss": loss, **_compared_in_parts(network, weights, train[0], test, noise)}
            for name, value in {"epoch": step, "step": step, **row}.items():
                curves.setdefault(name, []).append(value)
        if step < run.steps:
            weights = _step(network, weights, train, run.learning_rate)
            tick(step + 1, run.steps, row)
    return curves, {"num_params": sum(leaf.size for leaf in jax.tree.leaves(weights))}


@partial(jax.jit, static_argnums=0)
def _loss(network: _Network, weights: Any, images: jax.Array) -> jax.Array:
    outputs: Any = network.apply(weights, images)
    return jnp.square(outputs - images).mean()


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(network: _Network, weights: Any, images: jax.Array, learning_rate: float) -> Any:
    """The weights after a step of gradient descent. Not in a compiled loop, in which convolutions are slow on CPU."""
    gradient = jax.grad(_loss, argnums=1)(network, weights, images)
    return jax.tree.map(lambda leaf, slope: leaf - learning_rate * slope, weights, gradient)


def _check_memory(run: IdentityRun, network: _Network, train: jax.Array) -> None:
    """Refuses a network that does not fit: weights, new ones and a gradient, and what each layer returns, twice."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), train[:1])
    weights = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    places = train[..., 0].size if run.network == "convolutional" else len(train)
    needed = 4 * (3 * weights + 2 * run.layers * run.units * places)
    if needed > (free := memory.free()):
        sizes = f"need {memory.gigabytes(needed)}; {memory.gigabytes(free)} are free"
        raise UsageError(f"{run.layers} layers of {run.units} units {sizes}: set fewer units or a smaller train_size")


def _compared_in_parts(
    network: _Network, weights: Any, trained: jax.Array, test: jax.Array, noise: jax.Array
) -> dict[str, float]:
    """The means of `_compared` over all images, computed for a part of them after the other."""
    totals: dict[str, float] = {}
    for first in range(0, len(test), _PART):
        part, of_noise = (images[first : first + _PART] for images in (test, noise))
        for name, value in _compared(network, weights, trained, part, of_noise).items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(part) / len(test)
    return totals


@partial(jax.jit, static_argnums=0)
def _compared(
    network: _Network, weights: Any, trained: jax.Array, test: jax.Array, noise: jax.Array
) -> dict[str, jax.Array]:
    """What is measured of the outputs for both kinds of images."""
    found = {}
    for kind, images in {"test": test, "noise": noise}.items():
        outputs: Any = network.apply(weights, images)
        for name, target in {"input": images, "trained": jnp.broadcast_to(trained, images.shape)}.items():
            found[f"{kind}_to_{name}"] = _correlations(outputs, target).mean()
            found[f"{kind}_error_to_{name}"] = jnp.square(outputs - target).mean()
    return found


def _correlations(a: jax.Array, b: jax.Array) -> jax.Array:
    """float32[n]: Pearson's correlation of each image of one with that of the other; 0 where an image is constant."""
    a, b = (each.reshape(len(each), -1) for each in (a, b))
    a, b = (each - each.mean(1, keepdims=True) for each in (a, b))
    norms = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return (a * b).sum(1) / jnp.where(norms > 0, norms, 1)
