"""What a measure is given: a trained network, its first weights, its data, and functions of any weights.

All is at fixed statistics of batch norm and without augmentation and dropout. Examples are gone through in windows, so
that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data.randomness import Key

Weights = Any  # nested dicts of float32 arrays, such as {"Dense_0": {"kernel": [D, H], "bias": [H]}}
SPLITS = ("train", "test")
_WINDOW = 1000  # examples


class Function(Protocol):
    """What a network computes. Equal ones share compiled programs, so it is hashable."""

    def inputs(self, images: Any) -> jax.Array:
        """float32[B, H, W, C]: images as they enter the network."""
        ...

    def logits(self, weights: Weights, statistics: Any, images: Any) -> jax.Array:
        """float32[B, K], of images as they are stored."""
        ...

    def losses(self, logits: jax.Array, labels: Any) -> jax.Array:
        """float32[B]: the loss of each example."""
        ...

    def draw(self, key: Key, images: Any) -> Weights:
        """First weights."""
        ...

    def layers(self, images: Any) -> list[tuple[str, ...]]:
        """The keys of the weights of each layer, in the order in which the network calls them."""
        ...


class Split(NamedTuple):
    """N examples."""

    images: np.ndarray  # uint8 or float32[N, H, W, C], as they are stored
    labels: np.ndarray  # int32[N], as the run was given them


@dataclass(frozen=True, eq=False)
class Network:
    """A network at the end of its training."""

    function: Function
    weights: Weights
    initial: Weights  # as they were drawn, before a pre-training where there is one
    statistics: Any  # of batch norm
    train: Split
    test: Split
    key: Key  # for what a measure draws; its own for each run

    def logits(self, weights: Weights, split: str = "train") -> np.ndarray:
        """float32[N, K], of all examples of "train" or "test"."""
        rows = [
            np.asarray(_logits(self.function, weights, self.statistics, each.images)) for each in self.windows(split)
        ]
        return np.concatenate(rows)[: len(self.split(split).labels)]

    def accuracy(self, weights: Weights, split: str = "train") -> float:
        """The share of examples that are classified as their label."""
        return float((self.logits(weights, split).argmax(-1) == self.split(split).labels).mean())

    def loss(self, weights: Weights) -> float:
        """The mean loss of the training examples: the one that the run reports, without weight decay."""
        return sum(float(_loss(self.function, weights, self.statistics, each)) for each in self.windows()) / self.size

    def loss_and_gradient(self, weights: Weights) -> tuple[float, Weights]:
        """The mean loss of the training examples and its gradient."""
        total, sums = 0.0, jax.tree.map(jnp.zeros_like, weights)
        for each in self.windows():
            loss, gradient = _loss_and_gradient(self.function, weights, self.statistics, each)
            total, sums = total + float(loss), jax.tree.map(jnp.add, sums, gradient)
        return total / self.size, jax.tree.map(lambda leaf: leaf / self.size, sums)

    def hessian_times(self, direction: Weights) -> Weights:
        """The Hessian of the mean training loss at the network's weights, times a direction."""
        parts = (
            _hessian_times(self.function, self.weights, self.statistics, each, direction) for each in self.windows()
        )
        total = jax.tree.map(jnp.zeros_like, direction)
        for part in parts:
            total = jax.tree.map(jnp.add, total, part)
        return jax.tree.map(lambda leaf: leaf / self.size, total)

    def slopes(self, direction: Weights) -> np.ndarray:
        """float32[N]: the derivative of each training example's loss along a direction, at the network's weights."""
        rows = [
            np.asarray(_slopes(self.function, self.weights, self.statistics, each, direction))
            for each in self.windows()
        ]
        return np.concatenate(rows)[: self.size]

    @property
    def size(self) -> int:
        """N, the number of training examples."""
        return len(self.train.labels)

    @cached_property
    def outputs(self) -> np.ndarray:
        """float32[N, K]: the logits of the training examples."""
        return self.logits(self.weights)

    @cached_property
    def margins(self) -> np.ndarray:
        """float32[N]: the logit of the label minus the largest other one, of the training examples."""
        rows = np.arange(self.size)
        others = self.outputs.copy()
        others[rows, self.train.labels] = -np.inf
        return self.outputs[rows, self.train.labels] - others.max(-1)

    @cached_property
    def inputs(self) -> np.ndarray:
        """float32[N, D]: the training images as they enter the network, each as a vector."""
        rows = [np.asarray(_inputs(self.function, each.images)) for each in self.windows()]
        return np.concatenate(rows)[: self.size].reshape(self.size, -1)

    def split(self, name: str) -> Split:
        return {"train": self.train, "test": self.test}[name]

    def windows(self, split: str = "train") -> Iterator[Window]:
        """The examples of a split in windows of equal size; the last example fills the last window, with weight 0."""
        images, labels = self.split(split)
        size = min(_WINDOW, len(labels))
        for start in range(0, len(labels), size):
            index = np.arange(start, start + size)
            rows = index.clip(max=len(labels) - 1)
            yield Window(images[rows], labels[rows], (index < len(labels)).astype(np.float32))


class Window(NamedTuple):
    """B examples of a split."""

    images: np.ndarray  # as they are stored
    labels: np.ndarray  # int32[B]
    weight: np.ndarray  # float32[B], 0 or 1


_compiled = partial(jax.jit, static_argnums=0)


@_compiled
def _inputs(function: Function, images: Any) -> jax.Array:
    return function.inputs(images)


@_compiled
def _logits(function: Function, weights: Weights, statistics: Any, images: Any) -> jax.Array:
    return function.logits(weights, statistics, images)


def _total(function: Function, weights: Weights, statistics: Any, window: Window) -> jax.Array:
    logits = function.logits(weights, statistics, window.images)
    return (window.weight * function.losses(logits, window.labels)).sum()


_loss = _compiled(_total)
_loss_and_gradient = _compiled(jax.value_and_grad(_total, argnums=1))


@_compiled
def _hessian_times(
    function: Function, weights: Weights, statistics: Any, window: Window, direction: Weights
) -> Weights:
    def slope(weights: Weights) -> jax.Array:
        gradient = jax.grad(_total, argnums=1)(function, weights, statistics, window)
        return _product(gradient, direction)

    return jax.grad(slope)(weights)  # twice in reverse: some layers have hand-written gradients, and no forward mode


@_compiled
def _slopes(function: Function, weights: Weights, statistics: Any, window: Window, direction: Weights) -> jax.Array:
    def losses(weights: Weights) -> jax.Array:
        return function.losses(function.logits(weights, statistics, window.images), window.labels)

    found, pull = jax.vjp(losses, weights)
    # The derivative forward is the transpose of the one backward, for the same reason.
    return jax.grad(lambda each: _product(pull(each)[0], direction))(jnp.zeros_like(found))


def _product(a: Weights, b: Weights) -> jax.Array:
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: (x * y).sum(), a, b)), start=jnp.zeros(()))
