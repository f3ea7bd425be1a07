"""The kernel machines of Belkin, Ma and Mandal 2018 on MNIST, and our choices.

Kernels, as we remember the paper: Gaussian exp(-‖x - x'‖² / 2σ²) with σ = 5, Laplacian exp(-‖x - x'‖ / σ) with σ = 10,
of pixels in [0, 1]. Labels are drawn anew with a probability of 0 to 80 %. Interpolation is the function of least norm
through all labels. Epochs to fit are those of EigenPro-SGD; we have them from memory:

    Laplacian, true labels 4, random labels 7; Gaussian 20 and 873.

Our choices:

* Iterations are of plain conjugate gradients: one is a product with the kernel matrix, so it compares all images with
  all, as an epoch of SGD does. Conjugate gradients need fewer of them than a gradient method on a matrix of the same
  condition, about the square root. So orderings are comparable and numbers are not.
* Labels are drawn from all ten classes; a tenth of the draws are the true label.
* The first 4,000 training images at the laptop scale, all test images, and three seeds, which differ in their random
  labels.
* The norm against the number of images has true labels, and 20 % of them drawn anew. The paper has less noise and more
  data sets.
"""

from dataclasses import replace

from rethink_gen.runs import KernelRun, grid

GAUSSIAN, LAPLACIAN = "gaussian", "laplacian"
GAMMAS = {GAUSSIAN: 1 / 50, LAPLACIAN: 1 / 10}
LEVELS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8)
NOISE = 0.2  # where the norm is followed over sizes
TRUE, RANDOM = 0.0, 1.0  # levels at which iterations are counted
MOST_ITERATIONS = 10_000


def runs(size: int, smaller: tuple[int, ...], seeds: int) -> tuple[KernelRun, ...]:
    """For each kernel: every level of noise, fewer images with and without noise, and iterations until labels fit.

    Without noise all seeds are the same, so there is one.
    """
    return tuple(run for kernel in GAMMAS for run in _of_kernel(kernel, size, smaller, range(seeds)))


def _of_kernel(kernel: str, size: int, smaller: tuple[int, ...], seeds: range) -> tuple[KernelRun, ...]:
    base = KernelRun(kernel=kernel, gamma=GAMMAS[kernel], train_size=size, corruption="random_labels")
    counted = replace(base, iterations=MOST_ITERATIONS)
    return (
        *grid(base, corruption_level=LEVELS[:1]),
        *grid(base, corruption_level=LEVELS[1:], seed=seeds),
        *grid(base, train_size=smaller, corruption_level=LEVELS[:1]),
        *grid(base, train_size=smaller, corruption_level=(NOISE,), seed=seeds),
        *grid(counted, corruption_level=(TRUE,)),
        *grid(counted, corruption_level=(RANDOM,), seed=seeds),
    )
