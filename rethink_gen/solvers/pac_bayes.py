"""PAC-Bayes bounds of networks: a Gaussian posterior around what SGD found, optimized for its own bound.

The task has two classes: the upper half of the classes of a data set, label +1, against the lower half, -1. The
network has one output; its sign is the prediction. Labels are corrupted before classes are halved, so random labels are
fair coins. Images are divided by 255 and not whitened.

1. SGD with momentum 0.9 minimizes the logistic loss log₂(1 + exp(-y f(x))) from first weights w₀ to w₁.
2. A stochastic network draws its weights from Q = N(w, diag(s²)) for each prediction. Its prior is P = N(w₀, λI).
   RMSprop minimizes the expected logistic loss of Q plus √(B / 2), over w from w₁, s from 2|w₁|, and λ from exp(-6),
   with

       B = (KL(Q‖P) + 2 log(b log(c / λ)) + log(π² m / 6δ)) / (m - 1)

   for m examples. λ must be one of c exp(-j / b), j = 1, 2, …: the second term is the price for choosing it.
3. λ is rounded to the grid, up or down, whichever gives the smaller B. The error of Q on the training set is estimated
   from draws. With probability 1 - δ - δ′ the error of Q on new examples is at most

       kl⁻¹(kl⁻¹(estimate | log(2 / δ′) / draws) | B),

   where kl⁻¹(q | c) is the largest p with kl(q‖p) ≤ c, and kl is the divergence of two coins. This holds for all
   posteriors at once, so that Q may depend on the training set in any way.

Our choice where it saves time: a Monte Carlo draw is one vector of weights and a random batch of images, and not all of
them. Its expected error is the same, and it is in [0, 1]; nothing more is needed, so as many draws are worth as much.

References:
  Dziugaite and Roy 2017, "Computing nonvacuous generalization bounds for deep (stochastic) neural networks with many
  more parameters than training data", Sections 3 to 5. s and the accumulators of RMSprop begin as in the authors' code,
  gkdziugaite/pacbayes-opt. Where the gradient of λ would leave the grid, log(c / λ) is held at 0.01, as there.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rethink_gen.data import randomness
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError
from rethink_gen.models import create
from rethink_gen.models.create import Network
from rethink_gen.results.result import Curves
from rethink_gen.runs import PacBayesRun

Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress

DELTA = 0.025  # δ: the bound fails with at most this probability
DELTA_OF_SAMPLES = 0.01  # δ′: so does the estimate of the error of Q
GRID_PRECISION = 100  # b
GRID_TOP = 0.1  # c: every λ is smaller
_FIRST_LOG_PRIOR_STD = -3.0  # log √λ
_LEAST_STD = 1e-4  # of the posterior, at first: a weight of zero has no scale of its own
_MOMENTUM = 0.9
_MOST_STEPS = 100  # of a compiled call; a stop signal waits for one
_FEWER_SAMPLES = 20  # before the last row there are so many times fewer
_IMAGES_AT_ONCE = 1000


class Posterior(NamedTuple):
    """Q, and the variance of P."""

    mean: Any  # w: a tree of weights
    log_std: Any  # log s, alike
    log_prior_std: jax.Array  # log √λ, float32[]


class _Data(NamedTuple):
    images: jax.Array  # uint8 or float32[N, H, W, C]
    signs: jax.Array  # float32[N]: +1 for the upper half of the classes, else -1


def solve(run: PacBayesRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Trains a network, optimizes its bound, and evaluates the bound.

    Args:
      run: names the network, and how long both optimizations last.
      dataset: images uint8 or float32[n, H, W, C], labels int32[n].
      tick: called with the progress; it may raise to stop.

    Returns:
      Curves with a row before the optimization of the bound (epoch 0), and after 1, 2, 5, 10, 20, … of its epochs, and
      facts for provenance:

      * train_accuracy, test_accuracy: of the network that SGD found, in all rows;
      * snn_train_error, snn_test_error: mean errors of the stochastic network, over draws; the last row has all
        `samples` draws, the others a twentieth;
      * kl: KL(Q‖P) in nats; prior_std: √λ, on its grid;
      * bound: the bound on the error on new examples, by inverting kl twice;
      * complexity: √(B / 2); pinsker_bound: snn_train_error and complexity, added: the bound by Pinsker's inequality,
        which can exceed 1 and leaves out the error of the estimate.

    Raises:
      ComponentError: the network has batch norm.
      UsageError: an optimization diverges, or there is one example.
    """
    if len(dataset.train.labels) == 1:
        raise UsageError("a bound needs two training examples at least; set a larger train_size")
    train, test = _data(dataset.train, dataset.num_classes), _data(dataset.test, dataset.num_classes)
    network = create.network(run.model, 1, train.images.shape[1:])
    key = randomness.root_key(run.seed)
    first = network.draw(randomness.stream(key, "init"))
    size = len(train.signs)
    batch = min(run.batch_size, size)
    per_epoch = size // batch
    steps = per_epoch * (run.epochs + run.bound_epochs)
    done = 0

    def descend(loss: Any, optimizer: Any, epochs: int, name: str, variables: Any, after: Any = None) -> Any:
        """The variables that minimize a loss; `after(epoch, variables)` is called after each epoch."""
        nonlocal done
        state = variables, optimizer.init(variables)
        own = randomness.stream(key, name)
        for epoch in range(epochs):
            for batches, at in _batches(jax.random.fold_in(own, epoch), size, batch):
                state, value = _descend(loss, optimizer, state, first, train, batches, at)
                done += len(batches)
                tick(done, steps, {"train_loss": float(value)})
            if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state[0])):
                rate = "learning_rate" if name == "sgd" else "bound_learning_rate"
                raise UsageError(f"the {name} optimization diverges; set a smaller {rate}")
            if after:
                after(epoch + 1, state[0])
        return state[0]

    sgd = optax.sgd(run.learning_rate, momentum=_MOMENTUM)
    found = descend(partial(_loss_of_sgd, network), sgd, run.epochs, "sgd", jax.tree.map(jnp.copy, first))
    accuracies = {
        f"{name}_accuracy": _accuracy(network, found, data) for name, data in (("train", train), ("test", test))
    }
    curves: Curves = {}

    def add_row(epoch: int, posterior: Posterior) -> None:
        last = epoch == run.bound_epochs
        if not last and epoch not in _ROWS:
            return
        samples = run.samples if last else max(2, run.samples // _FEWER_SAMPLES)
        own = jax.random.fold_in(randomness.stream(key, "samples"), epoch)
        errors = _errors(network, posterior, (train, test), own, samples, batch)
        row = {"epoch": epoch, **accuracies, **_bounds(posterior, first, errors, samples, size)}
        for name, value in row.items():
            curves.setdefault(name, []).append(value)

    posterior = _first_posterior(found)
    add_row(0, posterior)
    rate = optax.piecewise_constant_schedule(run.bound_learning_rate, {per_epoch * run.bound_epochs // 4: 0.1})
    rmsprop = optax.rmsprop(rate, decay=0.9, eps=1e-10, initial_scale=1.0)
    descend(partial(_objective, network, size), rmsprop, run.bound_epochs, "bound", posterior, add_row)
    params = sum(leaf.size for leaf in jax.tree.leaves(first))
    return curves, {"num_params": params, "num_classes": 2}


# Epochs of the bound that have a row.
_ROWS = frozenset((0, *(digit * 10**power for power in range(7) for digit in (1, 2, 5))))


# The arithmetic of the bound, in float64.


def kl_of_coins(q: float, p: float) -> float:
    """kl(q‖p) in nats, of coins that show 1 with probabilities q and p."""
    from scipy.special import rel_entr

    return float(rel_entr(q, p) + rel_entr(1 - q, 1 - p))


def kl_inverse(q: float, c: float) -> float:
    """The largest p with kl(q‖p) ≤ c."""
    from scipy.optimize import brentq

    top = 1 - 1e-15
    if q >= top or kl_of_coins(q, top) <= c:
        return 1.0
    return float(brentq(lambda p: kl_of_coins(q, p) - c, q, top, xtol=1e-12))  # type: ignore[arg-type]


def kl_of_gaussians(mean: np.ndarray, std: np.ndarray, prior_mean: np.ndarray, prior_std: float) -> float:
    """KL(N(mean, diag(std²)) ‖ N(prior_mean, prior_std² I)) in nats, of float64[d]."""
    ratio = (std / prior_std) ** 2
    return float(0.5 * (ratio - 1 - np.log(ratio) + ((mean - prior_mean) / prior_std) ** 2).sum())


def bound_rate(kl: float, j: float, examples: int) -> float:
    """B for the j-th standard deviation of the grid."""
    return (kl + 2 * math.log(j) + math.log(math.pi**2 * examples / (6 * DELTA))) / (examples - 1)


def prior_on_grid(log_prior_std: float) -> tuple[int, int]:
    """The two j whose λ = c exp(-j / b) are next to a λ; the largest λ has j = 1."""
    j = GRID_PRECISION * (math.log(GRID_TOP) - 2 * log_prior_std)
    return max(1, math.floor(j)), max(1, math.ceil(j))


def _bounds(
    posterior: Posterior, first: Any, errors: tuple[float, float], samples: int, examples: int
) -> dict[str, float]:
    """The columns of curves that say how good a posterior is, from its mean errors on both splits over draws."""
    mean, log_std, prior_mean = map(_flat, (posterior.mean, posterior.log_std, first))
    choices = []
    for j in prior_on_grid(float(posterior.log_prior_std)):
        prior_std = math.sqrt(GRID_TOP * math.exp(-j / GRID_PRECISION))
        kl = kl_of_gaussians(mean, np.exp(log_std), prior_mean, prior_std)
        choices.append((bound_rate(kl, j, examples), kl, prior_std))
    rate, kl, prior_std = min(choices)
    train_error, test_error = errors
    error = kl_inverse(train_error, math.log(2 / DELTA_OF_SAMPLES) / samples)
    complexity = math.sqrt(rate / 2)
    return {
        "snn_train_error": train_error,
        "snn_test_error": test_error,
        "kl": kl,
        "prior_std": prior_std,
        "bound": kl_inverse(error, rate),
        "complexity": complexity,
        "pinsker_bound": train_error + complexity,
    }


def _flat(tree: Any) -> np.ndarray:
    """All values of a tree, float64[d]."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


# The two objectives and their steps.


def _loss_of_sgd(
    network: Network, weights: Any, first: Any, images: jax.Array, signs: jax.Array, key: jax.Array
) -> jax.Array:
    return _logistic_loss(network, weights, images, signs)


def _logistic_loss(network: Network, weights: Any, images: jax.Array, signs: jax.Array) -> jax.Array:
    """log₂(1 + exp(-y f(x))), the mean over a batch: at least the error."""
    return jax.nn.softplus(-signs * _outputs(network, weights, images)).mean() / math.log(2)


def _outputs(network: Network, weights: Any, images: jax.Array) -> jax.Array:
    """f(x), float32[B]."""
    return network.logits(weights, images.astype(jnp.float32) / 255)[:, 0]


def _objective(
    network: Network,
    examples: int,
    posterior: Posterior,
    first: Any,
    images: jax.Array,
    signs: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """The logistic loss of one draw of weights, plus √(B / 2)."""
    loss = _logistic_loss(network, _draw(posterior, key), images, signs)
    log_prior = posterior.log_prior_std
    total = lambda function, *trees: sum(jax.tree.leaves(jax.tree.map(lambda *each: function(*each).sum(), *trees)))
    squares = total(lambda w, first: jnp.square(w - first), posterior.mean, first)
    squares += total(lambda log_std: jnp.exp(2 * log_std), posterior.log_std)
    size = sum(leaf.size for leaf in jax.tree.leaves(first))
    kl = (
        squares / (2 * jnp.exp(2 * log_prior))
        - size / 2
        + size * log_prior
        - total(lambda each: each, posterior.log_std)
    )
    j = GRID_PRECISION * jnp.maximum(math.log(GRID_TOP) - 2 * log_prior, 0.01)
    rate = (kl + 2 * jnp.log(j) + math.log(math.pi**2 * examples / (6 * DELTA))) / (examples - 1)
    return loss + jnp.sqrt(rate / 2)


def _first_posterior(weights: Any) -> Posterior:
    """Around what SGD found: standard deviations of twice the weights, and λ = exp(-6)."""
    log_std = jax.tree.map(lambda w: jnp.log(jnp.maximum(2 * jnp.abs(w), _LEAST_STD)), weights)
    return Posterior(jax.tree.map(jnp.copy, weights), log_std, jnp.float32(_FIRST_LOG_PRIOR_STD))


def _draw(posterior: Posterior, key: jax.Array) -> Any:
    """Weights from Q."""
    leaves, structure = jax.tree.flatten(posterior.mean)
    noise = jax.tree.unflatten(
        structure,
        [
            jax.random.normal(part, leaf.shape)
            for part, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        ],
    )
    return jax.tree.map(lambda w, log_std, e: w + jnp.exp(log_std) * e, posterior.mean, posterior.log_std, noise)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _descend(loss: Any, optimizer: Any, state: Any, first: Any, data: _Data, batches: jax.Array, key: jax.Array) -> Any:
    """One step for each batch, int32[S, B]; returns the state, and the value before the last step."""

    def step(state: Any, now: Any) -> Any:
        batch, key = now
        variables, memory = state
        value, gradient = jax.value_and_grad(loss)(variables, first, data.images[batch], data.signs[batch], key)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(variables, updates), memory), value

    state, values = jax.lax.scan(step, state, (batches, jax.random.split(key, len(batches))))
    return state, values[-1]


def _batches(key: jax.Array, size: int, batch: int) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The batches of an epoch in a new order, int32[S, batch] at a time, each with a key; a part batch is left out."""
    count = size // batch
    at_once = max(each for each in range(1, min(count, _MOST_STEPS) + 1) if count % each == 0)
    order = jax.random.permutation(jax.random.fold_in(key, 0), size)[: count * batch].reshape(-1, at_once, batch)
    for i, batches in enumerate(order):
        yield batches, jax.random.fold_in(key, i + 1)


# Measuring.


def _data(split: Split, num_classes: int) -> _Data:
    upper = np.asarray(split.labels) >= num_classes / 2
    return _Data(jnp.asarray(split.images), jnp.asarray(np.where(upper, 1, -1), jnp.float32))


def _accuracy(network: Network, weights: Any, data: _Data) -> float:
    """The share of examples whose sign is that of the output."""
    size = len(data.signs)
    parts = (slice(i, i + _IMAGES_AT_ONCE) for i in range(0, size, _IMAGES_AT_ONCE))
    return sum(float(_count_right(network, weights, _Data(*(each[part] for each in data)))) for part in parts) / size


@partial(jax.jit, static_argnums=0)
def _count_right(network: Network, weights: Any, data: _Data) -> jax.Array:
    return _is_right(network, weights, data).sum()


def _is_right(network: Network, weights: Any, data: _Data) -> jax.Array:
    """bool[B]: an output of 0 is a +1, as in the authors' code."""
    return (_outputs(network, weights, data.images) >= 0) == (data.signs > 0)


def _errors(
    network: Network, posterior: Posterior, splits: tuple[_Data, _Data], key: jax.Array, samples: int, batch: int
) -> tuple[float, float]:
    """Mean errors on both splits of weights drawn from Q, each on a random batch."""
    total = np.zeros(2)
    for start in range(0, samples, _MOST_STEPS):
        keys = jax.random.split(jax.random.fold_in(key, start), min(_MOST_STEPS, samples - start))
        total += np.asarray(_sum_of_errors(network, posterior, splits, keys, batch), np.float64)
    train_error, test_error = total / samples
    return float(train_error), float(test_error)


@partial(jax.jit, static_argnums=(0, 4))
def _sum_of_errors(
    network: Network, posterior: Posterior, splits: tuple[_Data, _Data], keys: jax.Array, batch: int
) -> jax.Array:
    """float32[2]: errors on both splits, summed over one draw for each key."""

    def draw(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        own, *others = jax.random.split(key, 1 + len(splits))
        weights = _draw(posterior, own)
        errors = []
        for other, data in zip(others, splits, strict=True):
            chosen = jax.random.randint(other, (batch,), 0, len(data.signs))
            right = _is_right(network, weights, _Data(data.images[chosen], data.signs[chosen]))
            errors.append(1 - right.mean())
        return total + jnp.stack(errors), None

    return jax.lax.scan(draw, jnp.zeros(len(splits)), keys)[0]
