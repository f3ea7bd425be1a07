"""Whether the weights that enter the first layer vary along the directions along which its inputs vary."""

from __future__ import annotations

import jax
import numpy as np
from scipy.linalg import eigh

from rethink_gen.data.randomness import stream
from rethink_gen.errors import UsageError, unknown
from rethink_gen.measures.network import Network, Weights

_WINDOW = 1000  # images whose patches are in memory
BASES, AT = ("inputs", "random"), ("initial", "last")


def misalignment(network: Network, *, components: int = 50, basis: str = "inputs", at: str = "last") -> float:
    """How far the covariance of the first layer's weights is from sharing eigenvectors with that of its inputs.

    The mean of √(vᵀΣv · vᵀΣ⁻¹v) over directions v, with Σ the covariance of the weight vectors of the layer's units:
    1 where each v is an eigenvector of Σ, and more elsewhere. It does not depend on the scale of the weights.

    Args:
      components: Σ and v are in the space of so many principal components of the inputs, or of all if these are fewer.
        Along the others, such as those of pixels that are always black, inputs tell weights nothing.
      basis: "inputs": v are these principal components. "random": an orthonormal basis drawn in the same space.
      at: the weights: "last", or "initial", as they were drawn.

    Of a convolution, the inputs are all patches of the images, without padding.

    Raises:
      UsageError: the layer has not more units than components: Σ would have no inverse.

    References:
      Maennel et al. 2020, Appendix A; as in sinankalkan/CENG501-Spring2021, project_BilginGungor/figure2.ipynb, which
      sums √(…) - 1. The mean and the space of principal components are our choice.
    """
    for what, given, known in (("basis", basis, BASES), ("option at", at, AT)):
        if given not in known:
            raise unknown(f"{what} of measure misalignment", given, known)
    kernel = _first_kernel(network, network.weights if at == "last" else network.initial)
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(float)
    directions = _principal(network, kernel.shape, components)
    count, units = directions.shape[1], weights.shape[1]
    if units <= count:
        raise UsageError(f"the first layer has {units} units: set components below that")
    inside = np.atleast_2d(np.cov(directions.T @ weights))  # Σ, in coordinates of the components
    if basis == "random":
        drawn = jax.random.normal(stream(network.key, "misalignment"), (count, count))
        rotation = np.linalg.qr(np.asarray(drawn, float))[0]
        inside = rotation.T @ inside @ rotation
    return float(np.sqrt(np.diag(inside) * np.diag(np.linalg.inv(inside))).mean())


def _first_kernel(network: Network, weights: Weights) -> np.ndarray:
    """The kernel that takes the inputs: [D, units] of a dense layer, [h, w, channels, units] of a convolution."""
    inputs = _images(network).shape[1:]
    names = network.function.layers(network.train.images[:1])
    layers = [[weights[name] for name in layer] for layer in names] or [weights]
    kernels = ([np.asarray(leaf) for leaf in jax.tree.leaves(layer) if leaf.ndim in (2, 4)] for layer in layers)
    found: list[np.ndarray] = next(filter(None, kernels), [])  # of the first layer that has any
    fits = [each for each in found if each.shape[:-1] == (np.prod(inputs),) or each.shape[2:-1] == inputs[2:]]
    if not fits:
        raise UsageError("only of networks whose first layer is dense, or a convolution, over whole images")
    return fits[0]


def _images(network: Network) -> np.ndarray:
    """float32[N, H, W, C]: the training images as they enter the network."""
    shape = jax.eval_shape(network.function.inputs, network.train.images[:1]).shape[1:]
    return network.inputs.reshape(-1, *shape)


def _principal(network: Network, shape: tuple[int, ...], components: int) -> np.ndarray:
    """float64[D, components]: the first principal components of the inputs of a kernel of this shape; D at most."""
    count, sums, products = 0, 0.0, 0.0
    for images in np.array_split(_images(network), -(-network.size // _WINDOW)):
        patches = images
        if len(shape) > 2:
            patches = np.lib.stride_tricks.sliding_window_view(images, shape[:2], axis=(1, 2))  # [B, …, C, h, w]
            patches = np.moveaxis(patches, 3, -1)
        rows = patches.reshape(-1, int(np.prod(shape[:-1])))
        count += len(rows)
        sums, products = sums + rows.sum(0, dtype=float), products + (rows.T @ rows).astype(float)
    covariance = products / count - np.outer(sums, sums) / count**2
    size = len(covariance)
    return eigh(covariance, subset_by_index=[max(0, size - components), size - 1])[1]
