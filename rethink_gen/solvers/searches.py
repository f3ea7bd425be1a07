"""Searches of weights without gradients: each proposes candidates, is told their losses, and proposes again.

A search is `(draw, **options) -> (init, ask, tell)`, pure functions inside jit. Weights are vectors float32[P].

* draw: `(key) -> weights`: a network as it is initialized.
* init: `(key, weights, loss) -> state`: from the first weights, those that SGD starts from, and their loss.
* ask: `(key, state) -> candidates`, float32[C, P], the same C each time.
* tell: `(state, candidates, losses) -> state`, with the training loss of each candidate, float32[C].

One `ask` and one `tell` are a generation. The candidates of a generation are evaluated at once. The last one is any
algorithm of evosax, an optional package.

The paper does not state the sizes below for networks of our scale; see `rethink_gen.papers.chiang2023.protocol`.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rethink_gen.errors import UsageError, unknown

Key = jax.Array
Draw = Callable[[Key], jax.Array]


class Search(NamedTuple):
    """What a search is made of."""

    init: Callable[[Key, jax.Array, jax.Array], Any]
    ask: Callable[[Key, Any], jax.Array]
    tell: Callable[[Any, jax.Array, jax.Array], Any]


class _Climb(NamedTuple):
    """The best weights so far, and how far from them to look."""

    weights: jax.Array  # float32[P]
    loss: jax.Array  # float32[]
    step: jax.Array  # float32[]
    failures: jax.Array  # int32[]: candidates in vain since the last better one, or the last smaller step
    order: jax.Array  # int32[2P], of directions; empty if they are random


def guess_and_check(draw: Draw, *, candidates: int = 1000) -> Search:
    """Independent draws of all weights.

    References:
      Chiang et al. 2023, "Loss landscapes are all you need", Section 3.
    """
    return Search(
        init=lambda key, weights, loss: (),
        ask=lambda key, state: jax.vmap(draw)(jax.random.split(key, candidates)),
        tell=lambda state, asked, losses: (),
    )


def random_greedy(draw: Draw, *, candidates: int = 100, step: float = 0.01, patience: int = 10) -> Search:
    """Gaussian noise on all weights; the best of the candidates is kept if it is better.

    Args:
      step: standard deviation of the noise at first; halved after `patience` generations in vain.

    References:
      Chiang et al. 2023; `greedy_random` of Ping-C/optimizer has 100 generations and a step of 1 for weights in ±1.
    """

    def init(key: Key, weights: jax.Array, loss: jax.Array) -> _Climb:
        return _Climb(weights, loss, jnp.float32(step), jnp.int32(0), jnp.zeros(0, jnp.int32))

    def ask(key: Key, state: _Climb) -> jax.Array:
        return state.weights + state.step * jax.random.normal(key, (candidates, len(state.weights)))

    return Search(init, ask, lambda state, asked, losses: _climbed(state, asked, losses, patience * candidates))


def pattern_search(draw: Draw, *, candidates: int = 100, step: float = 1.0) -> Search:
    """One weight at a time moved up or down; the best of the candidates is kept if it is better.

    When all 2P directions are tried in vain, the step is halved. The directions follow each other in a random order.

    Args:
      step: of the first round.

    References:
      Chiang et al. 2023; `pattern_search` of Ping-C/optimizer, which shuffles the directions after each better one.
    """

    def init(key: Key, weights: jax.Array, loss: jax.Array) -> _Climb:
        order = jax.random.permutation(key, 2 * len(weights))
        return _Climb(weights, loss, jnp.float32(step), jnp.int32(0), order)

    def ask(key: Key, state: _Climb) -> jax.Array:
        directions = state.order[:candidates]
        signs = 1.0 - 2.0 * (directions % 2)
        rows = jnp.arange(len(directions))
        return jnp.tile(state.weights, (len(directions), 1)).at[rows, directions // 2].add(state.step * signs)

    def tell(state: _Climb, asked: jax.Array, losses: jax.Array) -> _Climb:
        climbed = _climbed(state, asked, losses, len(state.order))
        return climbed._replace(order=jnp.roll(state.order, -len(asked)))

    return Search(init, ask, tell)


def _climbed(state: _Climb, asked: jax.Array, losses: jax.Array, patience: int) -> _Climb:
    """Moves to the best candidate if it is better; halves the step after so many candidates in vain."""
    best = losses.argmin()
    better = losses[best] < state.loss
    failures = jnp.where(better, 0, state.failures + len(losses))
    tired = failures >= patience
    return state._replace(
        weights=jnp.where(better, asked[best], state.weights),
        loss=jnp.where(better, losses[best], state.loss),
        step=jnp.where(tired, state.step / 2, state.step),
        failures=jnp.where(tired, 0, failures),
    )


def genetic_algorithm(draw: Draw, *, candidates: int = 100, parents: int = 5, step: float = 0.01) -> Search:
    """Truncation selection and Gaussian mutations; the best parent stays as it is.

    Args:
      candidates: the population.
      parents: how many of the best have children.
      step: standard deviation of a mutation, of all weights.

    References:
      Such et al. 2017, "Deep neuroevolution", Algorithm 1: without crossover. They have 1,000 children of 20 parents.
    """

    if parents > candidates:
        raise UsageError(f"parents of genetic_algorithm must be at most its candidates, got {parents} of {candidates}")

    def init(key: Key, weights: jax.Array, loss: jax.Array) -> jax.Array:
        return jax.vmap(draw)(jax.random.split(key, parents)).at[0].set(weights)

    def ask(key: Key, state: jax.Array) -> jax.Array:
        which, how = jax.random.split(key)
        chosen = state[jax.random.randint(which, (candidates - 1,), 0, parents)]
        return jnp.concatenate([state[:1], chosen + step * jax.random.normal(how, chosen.shape)])

    return Search(init, ask, lambda state, asked, losses: asked[jnp.argsort(losses)[:parents]])


def evolution_strategy(draw: Draw, *, candidates: int = 100, step: float = 0.02, rate: float = 0.01) -> Search:
    """Follows a gradient that is estimated from losses at pairs of opposite noise, with Adam.

    The first candidate is the mean itself, so that it is evaluated, too.

    Args:
      candidates: two for each draw of noise.
      step: standard deviation of the noise.
      rate: the learning rate of Adam.

    References:
      Salimans et al. 2017, "Evolution strategies as a scalable alternative to reinforcement learning": theirs are ranks
      in place of losses.
    """
    optimizer = optax.adam(rate)

    def init(key: Key, weights: jax.Array, loss: jax.Array) -> tuple[jax.Array, Any]:
        return weights, optimizer.init(weights)

    def ask(key: Key, state: tuple[jax.Array, Any]) -> jax.Array:
        noise = step * jax.random.normal(key, (candidates // 2, len(state[0])))
        return state[0] + jnp.concatenate([0 * noise[:1], noise, -noise])

    def tell(state: tuple[jax.Array, Any], asked: jax.Array, losses: jax.Array) -> tuple[jax.Array, Any]:
        updates, adam = optimizer.update(estimated_gradient(asked, losses), state[1])
        return optax.apply_updates(state[0], updates), adam  # type: ignore[return-value]

    return Search(init, ask, tell)


def estimated_gradient(asked: jax.Array, losses: jax.Array) -> jax.Array:
    """The mean of (L(w + e) - L(w - e)) e / 2σ² over pairs, float32[P]; of a linear loss its mean is the gradient.

    Args:
      asked: float32[1 + 2M, P]: w, then M rows w + e, then the M rows w - e.
      losses: float32[1 + 2M].
    """
    noise = asked[1:][: len(asked) // 2] - asked[0]
    up, down = jnp.split(losses[1:], 2)
    difference = jnp.where(jnp.isfinite(up - down), up - down, 0)  # a pair with an infinite loss says nothing
    return difference @ noise / (2 * len(noise) * jnp.square(noise).mean())


STEP = 0.02  # of `evosax`; the library's own, 1, is for functions that are as wide as that


class _Evosax(NamedTuple):
    """The state of a search of evosax."""

    inner: Any  # the library's
    key: Key  # of the candidates to come, which `tell` draws again
    begun: jax.Array  # bool[]: whether the losses of a first population are told


def evosax(draw: Draw, *, algorithm: str, candidates: int = 100, step: float = STEP) -> Search:
    """An algorithm of evosax by the library's name for it, such as SNES, CMA_ES, Open_ES or SimpleGA.

    Those of a distribution begin at the first weights. Those of a population begin with draws, the first generation.
    What is not given stays at the library's default.

    Args:
      candidates: the library's population_size.
      step: standard deviation at first, of algorithms that have one: the library's std_init or std_schedule. xNES
        begins with its square; those of iAMaLGaM add that to a variance of 1, which hardly changes their candidates.

    Raises:
      UsageError: evosax is not installed, has no such algorithm, or the algorithm has several populations, or no step
        where one is given.
    """
    try:
        from evosax import algorithms  # pyright: ignore
    except ImportError as error:
        raise UsageError(f"search evosax needs evosax: pip install 'evosax>=0.3.2' ({error})") from error
    if algorithm not in algorithms.algorithms:
        raise unknown("algorithm of evosax", algorithm, algorithms.algorithms)
    kind = algorithms.algorithms[algorithm]
    if "num_populations" in inspect.signature(kind).parameters:
        raise UsageError(f"{algorithm} of evosax has several populations, and a search here has one: choose another")
    scheduled = "std_schedule" in inspect.signature(kind).parameters
    options = {"std_schedule": optax.constant_schedule(step)} if scheduled else {}
    made = kind(candidates, jnp.zeros(jax.eval_shape(draw, jax.random.key(0)).shape), **options)
    params = made.default_params
    if hasattr(params, "std_init"):
        params = params.replace(std_init=step)
    elif not scheduled and step != STEP:
        raise UsageError(f"{algorithm} of evosax has no step: leave it out")
    of_distribution = algorithm in algorithms.distribution_based_algorithms

    def init(key: Key, weights: jax.Array, loss: jax.Array) -> _Evosax:
        how, next_key = jax.random.split(key)
        if of_distribution:
            return _Evosax(made.init(how, weights, params), next_key, jnp.bool(True))
        drawn = jax.vmap(draw)(jax.random.split(next_key, candidates)).at[0].set(weights)
        return _Evosax(made.init(how, drawn, jnp.full(candidates, jnp.inf), params), next_key, jnp.bool(False))

    def ask(key: Key, state: _Evosax) -> jax.Array:
        asked, _ = made.ask(state.key, state.inner, params)
        return asked if of_distribution else jnp.where(state.begun, asked, state.inner.population)

    def tell(state: _Evosax, asked: jax.Array, losses: jax.Array) -> _Evosax:
        _, inner = made.ask(state.key, state.inner, params)  # `ask` returns no state; compiled once for both
        how, next_key = jax.random.split(jax.random.fold_in(state.key, 1))
        told, _ = made.tell(how, asked, losses, inner, params)
        if not of_distribution:
            begun = made.init(how, asked, losses, params)
            told = jax.tree.map(partial(jnp.where, state.begun), told, begun)
        return _Evosax(told, next_key, jnp.bool(True))

    return Search(init, ask, tell)
