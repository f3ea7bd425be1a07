"""Image features for kernel machines and ridge regression: pixels, Gabor wavelets, random convolutions, Fourier.

Features come in blocks of columns. So the features of random convolutions are never all in memory at once. Zhang et
al. 2017 (Section 5) name the first three and state no parameters. We chose them on held-out training images:

* Pixels. All values are divided by 255, as in the first author's code.
* Gabor wavelets. There are eight orientations of one wavelength. The envelope is a round Gaussian, whose standard
  deviation is half a wavelength. The image is converted to gray and padded with zeros. The modulus of the response is
  averaged in cells of 4×4 pixels. Each feature has mean 0, which keeps digits in distances. The variances of all
  features sum to 1.
* Random convolutions. Patches of 6×6 pixels are normalized to mean 0 and standard deviation about 1, then whitened
  (ZCA). The filters are patches drawn at random from the training images, with norm 1. A threshold is subtracted from
  each response, negative values become 0, and the result is averaged in the four quadrants of the image. Each feature
  has mean 0. All have the same variance, and the variances sum to 1. This follows Coates and Ng (2012), with random
  patches in place of k-means. Filters of Gaussian noise are worse: 56 % error on held-out images, against 53 % (2,000
  images, 1,250 filters, a linear kernel). With `two_sided`, each filter has the negative of its response rectified,
  too, as in KeystoneML (RandomPatchCifarKernel).

Means and variances are computed on the first 1,000 training images.

Random Fourier features are those of Belkin et al. 2019, but real: √(2/N) cos(v·x + b) with v ~ N(0, 1/σ²) and b uniform
in [0, 2π]. With more features, inner products tend to the Gaussian kernel with γ = 1/(2σ²). Belkin et al. have complex
exponentials without b. With real features, N features have N weights per class, so all labels of n images can be fitted
from N = n on.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rethink_gen.catalog.solvers import FILTERS_OF_A_BLOCK, WAVES_OF_A_BLOCK
from rethink_gen.errors import UsageError
from rethink_gen.runs import AnyRun, KernelRun

_SAMPLE = 1000  # training images for means and variances
_WAVELENGTH, _ORIENTATIONS, _CELL = 6.0, 8, 4  # pixels, count, pixels
_PATCH, _THRESHOLD = 6, 0.25
_FLOOR, _RIDGE = 10.0, 0.1  # added to a patch's variance (of 8-bit values), and to the eigenvalues in whitening
_PATCHES = 100_000  # patches that the whitening is computed from
_IMAGES_PER_STEP = 8  # on CPU; see FILTERS_OF_A_BLOCK
_MANY_IMAGES_PER_STEP = 128  # on an accelerator: enough images to fill it


class Features(NamedTuple):
    """Features of images, computed in blocks of columns."""

    block: Callable[[Any, int], jax.Array]  # (images[N, H, W, C], i) → float32[N, widths[i]]
    widths: tuple[int, ...]  # number of features in each block
    flop: float = 0.0  # floating point operations per image, for all blocks

    @property
    def streamed(self) -> bool:
        """Whether the features are computed block by block, because all of them may not fit into memory."""
        return len(self.widths) > 1


def pixels(run: AnyRun, images: np.ndarray) -> Features:
    """Pixel features: all values of an image, divided by 255."""

    def flat(images: Any, _: int) -> jax.Array:
        return jnp.asarray(images, jnp.float32).reshape(len(images), -1) / 255

    return Features(flat, (int(np.prod(images.shape[1:])),))


def gabor_wavelets(run: AnyRun, images: np.ndarray) -> Features:
    """Gabor features: moduli of the responses to wavelets of eight orientations, averaged in cells of 4×4 pixels."""
    sample = np.asarray(_gabor_responses(images[:_SAMPLE]))
    mean, scale = sample.mean(0), 1 / np.sqrt(sample.var(0).sum() + 1e-12)
    height, width = images.shape[1:3]
    flop = 8.0 * height * width * (height + width) * _ORIENTATIONS
    return Features(lambda images, _: scale * (_gabor_responses(images) - mean), (sample.shape[1],), flop)


def random_convolutions(run: AnyRun, images: np.ndarray, *, two_sided: bool = False) -> Features:
    """Random convolutional features: rectified responses to random patches, averaged in quadrants; four per filter, or
    eight if both signs of the response are rectified.
    """
    if not isinstance(run, KernelRun):
        raise UsageError("random_convolutions are features of a KernelRun, whose num_filters says how many")
    filters, offsets = _random_filters(run, images)
    starts = range(0, run.num_filters, FILTERS_OF_A_BLOCK)
    blocks = [(filters[:, i : i + FILTERS_OF_A_BLOCK], offsets[i : i + FILTERS_OF_A_BLOCK]) for i in starts]

    @lru_cache(maxsize=1)  # each block is used several times before the next one
    def mean_and_scale(i: int) -> tuple[np.ndarray, np.ndarray]:
        sample = np.asarray(_convolve(images[:_SAMPLE], *blocks[i], two_sided))
        count = len(offsets) * sample.shape[1] / len(blocks[i][1])
        return sample.mean(0), 1 / np.sqrt(count * (sample.var(0) + 1e-12))

    def block(images: Any, i: int) -> jax.Array:
        mean, scale = mean_and_scale(i)
        return scale * (_convolve(images, *blocks[i], two_sided) - mean)

    rows, columns = _positions(images)
    per_filter = min(2, rows) * min(2, columns) * (1 + two_sided)
    return Features(
        block,
        tuple(per_filter * len(some) for _, some in blocks),
        2.0 * rows * columns * filters.size,
    )


def fourier(run: AnyRun, images: np.ndarray, *, count: int, sigma: float = 5.0) -> Features:
    """Random Fourier features: √(2/count) cos(v·x + b). The first features of a larger count are those of a smaller."""
    size = int(np.prod(images.shape[1:]))
    starts = range(0, count, WAVES_OF_A_BLOCK)
    widths = tuple(min(WAVES_OF_A_BLOCK, count - start) for start in starts)

    def block(images: Any, i: int) -> jax.Array:
        rng = np.random.default_rng([run.seed, i])
        waves = rng.standard_normal((WAVES_OF_A_BLOCK, size), np.float32)[: widths[i]] / np.float32(sigma)
        phases = rng.uniform(0, 2 * np.pi, WAVES_OF_A_BLOCK).astype(np.float32)[: widths[i]]
        return _cosines(images, waves, phases, np.float32(np.sqrt(2 / count)))

    return Features(block, widths, 2.0 * size * count)


@jax.jit
def _cosines(images: jax.Array, waves: jax.Array, phases: jax.Array, scale: jax.Array) -> jax.Array:
    x = images.astype(jnp.float32).reshape(len(images), -1) / 255
    return scale * jnp.cos(x @ waves.T + phases)


@jax.jit
def _gabor_responses(images: jax.Array) -> jax.Array:
    """Gabor responses float32[N, cells · orientations].

    A wavelet is g(x) g(y) (exp(ik(x cos θ + y sin θ)) - c), and c makes its sum zero. Both of its terms are a function
    of x times a function of y. So two products with banded matrices give the response at every pixel.
    """
    gray = images.astype(jnp.float32).mean(-1) / 255
    height, width = gray.shape[1:]
    deviation, frequency = _WAVELENGTH / 2, 2 * np.pi / _WAVELENGTH
    angles = np.pi * np.arange(_ORIENTATIONS)[:, None, None] / _ORIENTATIONS

    def bands(side: int, slope: np.ndarray) -> np.ndarray:
        shift = np.arange(side) - np.arange(side)[:, None]
        envelope = np.exp(-(shift**2) / (2 * deviation**2)) / (deviation * np.sqrt(2 * np.pi))
        return (envelope * np.exp(1j * frequency * slope * shift)).astype(np.complex64)

    def response(y: np.ndarray, x: np.ndarray) -> jax.Array:
        return jnp.einsum("oyh,nhw,oxw->nyxo", y, gray, x)

    constant = np.zeros((1, 1, 1))
    light = np.exp(-((deviation * frequency) ** 2) / 2) * response(bands(height, constant), bands(width, constant))
    modulus = jnp.abs(response(bands(height, np.sin(angles)), bands(width, np.cos(angles))) - light)
    return jax.vmap(lambda image: _mean_pool(image, (_CELL, _CELL), (_CELL, _CELL)).ravel())(modulus)


@partial(jax.jit, static_argnums=3)
def _convolve(images: jax.Array, filters: jax.Array, offsets: jax.Array, two_sided: bool = False) -> jax.Array:
    """float32[N, 4 · filters]: max(response - offset, 0), averaged in the four quadrants.

    An offset is a mean and the threshold. If `two_sided`, max(mean - response - threshold, 0) follows in each quadrant.
    If a side has an odd number of positions, the quadrants share the middle line.
    """
    rows, columns = _positions(images)

    def responses(image: jax.Array) -> jax.Array:
        above = jnp.concatenate([image[i : i + rows] for i in range(image.shape[0] - rows + 1)], -1)
        x = jnp.concatenate([above[:, j : j + columns] for j in range(image.shape[1] - columns + 1)], -1)
        above_offset = _normalized(x.astype(jnp.float32)) @ filters - offsets
        sides = (above_offset, -above_offset - 2 * _THRESHOLD) if two_sided else (above_offset,)
        rectified = jnp.maximum(jnp.concatenate(sides, -1), 0)
        quadrant, strides = (-(-rows // 2), -(-columns // 2)), (max(1, rows // 2), max(1, columns // 2))
        return _mean_pool(rectified, quadrant, strides).ravel()

    size = _IMAGES_PER_STEP if jax.default_backend() == "cpu" else _MANY_IMAGES_PER_STEP
    return lax.map(responses, images, batch_size=size)


def _random_filters(run: KernelRun, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filters float32[patch, F] for normalized patches, which include the whitening; and offsets float32[F]."""
    rng = np.random.default_rng(run.seed)
    rows, columns = _positions(images)
    count, size = max(_PATCHES, run.num_filters), (images.shape[1] - rows + 1, images.shape[2] - columns + 1)
    windows = np.lib.stride_tricks.sliding_window_view(images, size, (1, 2))  # [N, rows, columns, C, y, x]
    drawn = windows[tuple(rng.integers(0, side, count) for side in windows.shape[:3])].transpose(0, 3, 2, 1)
    found = _normalized(drawn.reshape(count, -1).astype(np.float64))
    mean = found.mean(0)
    values, vectors = np.linalg.eigh(np.cov(found, rowvar=False))
    whiten = vectors / np.sqrt(values + _RIDGE) @ vectors.T
    filters = (found[: run.num_filters] - mean) @ whiten
    filters = whiten @ (filters / np.linalg.norm(filters, axis=1, keepdims=True)).T
    return filters.astype(np.float32), (mean @ filters + _THRESHOLD).astype(np.float32)


def _positions(images: Any) -> tuple[int, int]:
    """The number of positions of a patch: (rows, columns). In a smaller image the patch is as large as the image."""
    return max(1, images.shape[1] - _PATCH + 1), max(1, images.shape[2] - _PATCH + 1)


def _normalized(x: Any) -> Any:
    """Normalizes patches to mean 0 and, unless they are flat, variance about 1."""
    return (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + _FLOOR) ** 0.5


def _mean_pool(x: jax.Array, window: tuple[int, int], strides: tuple[int, int]) -> jax.Array:
    """Mean pooling of [H, W, F] over windows of (rows, columns), cut to the size of x."""
    window = (min(window[0], x.shape[0]), min(window[1], x.shape[1]))
    return lax.reduce_window(x, 0.0, lax.add, (*window, 1), (*strides, 1), "VALID") / (window[0] * window[1])
