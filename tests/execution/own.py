"""A user's own corruption, model, optimizer and arrays, as a plug-in that workers, nodes and hosts must see."""

from dataclasses import replace

import flax.linen as nn
import numpy as np
import optax

import rethink_gen as rg


@rg.register.corruption
def next_class(key, dataset, level, *, by=1):
    labels = (dataset.train.labels + by) % dataset.num_classes
    return replace(dataset, train=dataset.train._replace(labels=labels))


@rg.register.model
class Own(nn.Module):
    num_classes: int
    dropout: float = 0.0
    width: int = 8

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(self.num_classes)(nn.tanh(nn.Dense(self.width)(x.reshape(len(x), -1))))


@rg.register.optimizer
def sign_sgd(learning_rate):
    return optax.sign_sgd(learning_rate)


rng = np.random.default_rng(0)
data = rg.Dataset.from_arrays("scans", train=(rng.random((90, 6, 6)), rng.integers(3, size=90)))
