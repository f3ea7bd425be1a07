"""Other ways to compute a convolution with stride 1 and "same" padding: layers.py times them.

Images are float32[B, H, W, C], kernels float32[size, size, C, K] with an odd size.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def matrix_product(x: jax.Array, w: jax.Array) -> jax.Array:
    """A 1×1 convolution as one product of matrices."""
    return (x.reshape(-1, x.shape[-1]) @ w.reshape(w.shape[2:])).reshape(*x.shape[:-1], -1)


def _shifted(x: jax.Array, w: jax.Array) -> list[jax.Array]:
    """The input under each position of the kernel, [B, H, W, C]."""
    size, (_, height, width, _) = len(w), x.shape
    padded = jnp.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    return [padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]


def im2col(x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution as one product with a matrix that has a row for each window."""
    columns = jnp.concatenate(_shifted(x, w), -1)
    return (columns.reshape(-1, columns.shape[-1]) @ w.reshape(-1, w.shape[-1])).reshape(*x.shape[:-1], -1)


def product_each(x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution as a sum of products of matrices, one for each position of the kernel."""
    kernels = w.reshape(-1, *w.shape[2:])
    products = (each.reshape(-1, x.shape[-1]) @ kernel for each, kernel in zip(_shifted(x, w), kernels, strict=True))
    return sum(products, start=jnp.zeros(())).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def swapped(x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution whose weight gradient has the output's gradient as the image and the input as the kernel."""
    return convolution(x, w)


def _swapped_forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return convolution(x, w), (x, w)


def _swapped_backward(saved: tuple[jax.Array, ...], dy: jax.Array) -> tuple[jax.Array, ...]:
    x, w = saved
    [dx] = jax.vjp(lambda x: convolution(x, w), x)[1](dy)
    padding = [(len(w) // 2, len(w) // 2)] * 2
    dw = lax.conv_general_dilated(dy, x, (1, 1), padding, dimension_numbers=("CHWN", "IHWO", "HWNC"))
    return dx, dw[::-1, ::-1].swapaxes(2, 3)


swapped.defvjp(_swapped_forward, _swapped_backward)


def convolution(x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def check(function: Callable[..., jax.Array], x: np.ndarray, dy: np.ndarray, w: np.ndarray) -> None:
    """Fails unless the function and its gradients are those of the convolution, on the first two images."""

    def results(function: Callable[..., jax.Array]) -> tuple[Any, ...]:
        y, pull = jax.vjp(function, x[:2], w)
        return y, *pull(dy[:2])

    for mine, right in zip(results(function), results(convolution), strict=True):
        np.testing.assert_allclose(mine, right, atol=1e-5 * abs(right).max())  # sums of up to 3,024 products


WAYS = {
    matrix_product: "product of matrices",
    swapped: "weight gradient with swapped roles",
    im2col: "product with a row for each window",
    product_each: "product for each position of the kernel",
}
