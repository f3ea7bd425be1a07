"""How sharp the minimum is that training ended in: the loss nearby, and how fast it curves."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rethink_gen.data.randomness import stream
from rethink_gen.measures.network import Network


def sharpness(network: Network, *, epsilon: float = 1e-3, dimensions: int = 0, iterations: int = 10) -> float:
    """100 (max f - f) / (1 + f), with f the training loss at the weights x and the maximum over a box around them.

    In full space the box is |zᵢ| ≤ ε(|xᵢ| + 1). With `dimensions`, x moves by A z alone, with A of so many random unit
    columns, and |zᵢ| ≤ ε(|(A⁺x)ᵢ| + 1). The maximum is sought by L-BFGS-B from z = 0.

    Not stated in the paper: where the search begins, and the distribution of A; here Gaussian. A takes 4 bytes for each
    weight and dimension.

    References:
      Keskar et al. 2017, Metric 2.1 and Section 2.2.1.
    """
    from scipy.optimize import minimize

    flat, unravel = ravel_pytree(network.weights)
    x = np.asarray(flat)
    directions = _directions(network, len(x), dimensions) if dimensions else None
    with np.errstate(invalid="ignore"):  # see below
        place = x if directions is None else np.linalg.lstsq(directions.T @ directions, directions.T @ x)[0]

    def minus_loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        step = z.astype(np.float32)  # a product with float64 would copy the directions, gigabytes, at each call
        loss, gradient = network.loss_and_gradient(
            unravel(jnp.asarray(x + (step if directions is None else directions @ step)))
        )
        slope = np.asarray(ravel_pytree(gradient)[0])
        return -loss, -(slope if directions is None else directions.T @ slope).astype(float)

    size = epsilon * (np.abs(place.astype(float)) + 1)
    with np.errstate(invalid="ignore"):  # NumPy's product of matrices warns at times though every number is finite
        found = minimize(
            minus_loss,
            np.zeros(len(place)),
            jac=True,
            method="L-BFGS-B",
            bounds=np.column_stack([-size, size]),
            # At a minimum slopes are small, and the search would end before it begins, were it not for these zeros.
            options={"maxiter": iterations, "ftol": 0, "gtol": 0},
        )
    here = network.loss(network.weights)
    return 100 * (max(-float(found.fun), here) - here) / (1 + here)


def _directions(network: Network, size: int, dimensions: int) -> np.ndarray:
    """float32[P, D]: random unit columns."""
    drawn = np.array(jax.random.normal(stream(network.key, "sharpness"), (size, dimensions)))
    drawn /= np.linalg.norm(drawn, axis=0)
    return drawn


def fisher_rao(network: Network) -> float:
    """(E ⟨w, ∇ℓ(w; x, y)⟩²)^(1/2) over the training examples: the norm of w in the Fisher information of its labels.

    References:
      Liang et al. 2019, Definition 2.
    """
    return math.sqrt(float(np.square(network.slopes(network.weights), dtype=float).mean()))


def top_eigenvalue(network: Network, *, tolerance: float = 1e-3) -> float:
    """The largest eigenvalue of the Hessian of the training loss, by Lanczos, to a relative tolerance."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    flat, unravel = ravel_pytree(network.weights)

    def times(direction: np.ndarray) -> np.ndarray:
        found = network.hessian_times(unravel(jnp.asarray(direction.reshape(-1), jnp.float32)))
        return np.asarray(ravel_pytree(found)[0], float)

    operator: Any = LinearOperator((flat.size, flat.size), matvec=times, dtype=float)  # type: ignore[call-arg]
    start = np.asarray(jax.random.normal(stream(network.key, "top_eigenvalue"), flat.shape), float)
    if not times(start).any():  # where softmax is exactly one-hot, or there is one class; ARPACK fails on zeros
        return 0.0
    return float(eigsh(operator, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False)[0])


# Not stated in the paper; as in the code of Dziugaite et al. 2020, which takes σ of at most 2, too.
_LARGEST, _HALVINGS, _LEAST_NOISE = 2.0, 15, 1e-3


def pac_bayes(network: Network, *, drop: float = 0.1, draws: int = 10, magnitude: bool = True) -> float:
    """1/σ², with σ the most noise that costs no more than `drop` of the training accuracy, on average over draws.

    A weight w gets Gaussian noise of variance σ²w² + 0.001², magnitude-aware, or else of variance σ². σ is found by
    halving [0, 2]. The same draws are scaled for each σ, which makes it well defined; that choice is ours.

    References:
      Jiang et al. 2020, Appendix C.4: 1/σ' of "PAC-Bayes magnitude-aware"; Dziugaite et al. 2020 for the constants.
    """
    flat, unravel = ravel_pytree(network.weights)
    x = np.asarray(flat)
    keys = jax.random.split(stream(network.key, "pac_bayes"), draws)
    goal = network.accuracy(network.weights) - drop

    def accuracy(sigma: float) -> float:
        scale = np.sqrt(np.square(sigma * x) + _LEAST_NOISE**2) if magnitude else np.float32(sigma)
        noisy = (x + scale * np.asarray(jax.random.normal(key, x.shape)) for key in keys)
        return float(np.mean([network.accuracy(unravel(jnp.asarray(each))) for each in noisy]))

    low, high = 0.0, _LARGEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if accuracy(middle) >= goal else (low, middle)
    return 1 / high**2
