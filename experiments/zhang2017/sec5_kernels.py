"""Table 3: kernel machines of least norm, and whether their norm orders their test errors.

9 runs. Raw MNIST has the first author's kernel; the other kernels, wavelets and filters are ours, chosen on held-out
training images: see features.py. At the paper's size the rows of pixels and of wavelets take 12 minutes each on two CPU
cores, 25 on one, and 10 to 15 GB of memory. Random convolutions of all 32,000 filters, 840 TFLOP with and without
regularization, took four minutes on an H200 that had other runs to do; on two cores they are a little over two hours at
the speed of the others, and 16 GB. Half the filters, which an hour is enough for there, stand beside them, without a
verdict:

    rethink-gen run sec5_kernels --scale paper --only features=random_convolutions --only num_filters=32000
    rethink-gen run sec5_kernels --scale paper --only features=random_convolutions --only num_filters=16000

Laptop scale has a fifth of the images and a sixteenth of the filters. Its two runs with both signs took 28 minutes on a
core that nine processes shared.

Expected: 1.2 % on MNIST, half of it with wavelets, although the norm is then larger (about 220 and 390 in the paper,
which does not say of what); 46 % on CIFAR-10, 17 % with random convolutions and 15 % with ℓ2 regularization, which
does nothing for MNIST.

Found: the errors of MNIST, and of random convolutions: 17.65 %. ℓ2 regularization takes 0.3 points off that, not the
two of the paper: our λ was chosen on 10,000 images with 2,000 filters, where it takes off 1.9. Half the filters make
18.25 %, and 17.53 % with regularization. Not the norms of the functions: ours, √(tr αᵀKα) with one-hot labels, are 145
and 82; with labels ±1 they are 2.02 times as large for pixels, and for wavelets about 2.2 times, as far as fewer images
tell (sec5_norms). For MNIST ℓ2 regularization does nothing here, too: 1.22 % without and 1.24 % with it on pixels,
0.52 % and 0.53 % on wavelets; at laptop scale 2.40 and 2.41 %, 1.02 and 1.00 %.

Found, of two choices for random convolutions that a likely ancestor of the paper's code has (KeystoneML): if both signs
of a response are rectified, the error falls from 28.44 to 27.64 %, and with regularization from 26.58 to 25.81 %
(laptop scale, twice as many features, the bandwidth of one sign). Labels ±1 in place of one-hot change no prediction:
each output is then 2 f_k minus the sum of all f_k, so the largest stays the largest.

Found, of what the 220 is: the mean over classes of the norm of the coefficients, ‖α_k‖₂, is 222 on raw pixels, with
the first author's kernel and nothing tuned. With wavelets it depends on the bandwidth, which the paper does not state:
on 10,000 images it is 358, 55, 23, 16 and 17 at γ = 1, 2, 3, 4 and 8. At γ = 3 and all images it is 190. K is singular
in float32 at 2.5; in float64 the same norm passes 390 between γ = 2 and 2.5, as far as fewer images tell: see
sec5_norms.
The paper's point stands without its numbers: a norm depends on the bandwidth as much as on the features, and of five
bandwidths on the same wavelets, that with the largest norm makes the fewest errors (laptop scale).
"""

from dataclasses import replace

from rethink_gen import Experiment, KernelRun, grid, needs, papers
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent

PIXELS = KernelRun(dataset="mnist", gamma=0.02)
WAVELETS = KernelRun(dataset="mnist", features="gabor_wavelets", gamma=3.0)  # of less, K is singular in float32
PIXELS_CIFAR10 = KernelRun(dataset="cifar10", gamma=0.01)
CONVOLUTIONS = KernelRun(dataset="cifar10", features="random_convolutions", gamma=0.16)
RIDGE = 0.01
INTERPOLATING = (PIXELS, WAVELETS, PIXELS_CIFAR10, CONVOLUTIONS)
REGULARIZED = tuple(replace(run, weight_decay=RIDGE) for run in (CONVOLUTIONS, PIXELS, WAVELETS))
HALF = tuple(replace(run, num_filters=CONVOLUTIONS.num_filters // 2) for run in (CONVOLUTIONS, REGULARIZED[0]))
BOTH_SIGNS = "random_convolutions(two_sided=true)"
TWO_SIDED = tuple(replace(run, features=BOTH_SIGNS) for run in (CONVOLUTIONS, REGULARIZED[0]))
BANDWIDTHS = grid(WAVELETS, gamma=(1.0, 2.0, 4.0, 8.0))  # on a laptop: does the norm order kernels on equal features?
LAPTOP_IMAGES, LAPTOP_FILTERS = 10_000, 2000
ALL_FILTERS = [CONVOLUTIONS.num_filters, LAPTOP_FILTERS]
PAPERS_BANDWIDTHS = [run.gamma for run in INTERPOLATING]


def smaller(run):
    """For minutes on two cores: a fifth of the images or less, a sixteenth of the filters."""
    filters = {"num_filters": LAPTOP_FILTERS} if run.features.startswith(CONVOLUTIONS.features) else {}
    return replace(run, train_size=LAPTOP_IMAGES, **filters)


def more(frame):
    """A column per kernel machine that the paper does not have, true where a row is of it."""
    half = {f", {HALF[0].num_filters:,} filters": frame["num_filters"].eq(HALF[0].num_filters)}
    gammas = {f", γ = {run.gamma:g}": frame["gamma"].eq(run.gamma) for run in BANDWIDTHS}
    both = {", both signs": frame["features"].eq(BOTH_SIGNS)}
    return frame.assign(**half, **both, **gammas)[[*half, *both, *gammas]]


def table(study, metrics=None):
    """Beside the paper, and below it the kernel machines that the paper does not have."""
    import pandas as pd

    runs = study.runs
    others = more(runs)
    rows = [tables.beside_paper(runs[~others.any(axis=1)], "table3", metrics=metrics)]
    plain = runs.assign(scale="other", features=runs["features"].str.replace(r"\(.*", "", regex=True))
    for name, mask in others.items():
        found = tables.beside_paper(plain[mask], "table3", metrics=metrics)
        found["features"] = found["features"].map(papers.label) + name
        rows.append(found[found["n"] > 0])
    return pd.concat(rows, ignore_index=True)


def figure(study):
    return figures.dots(table(study, ["test_error"]))


def means(study, key, metric):
    """The mean of a metric by features, or by weight decay."""
    return study.runs.groupby(key)[metric].mean()


def in_words(*errors):
    return ", ".join(percent(error, 2) for error in errors)


@needs(weight_decay=0.0, gamma=PAPERS_BANDWIDTHS, num_filters=ALL_FILTERS)
def every_label_is_fitted(study):
    """Without regularization every training label is fitted."""
    runs = study.runs
    return (runs["train_error"] == 0).all(), f"{len(runs)} runs, residuals of at most {runs['residual'].max():.1g}"


@needs(dataset="mnist", weight_decay=0.0, gamma=PAPERS_BANDWIDTHS)
def wavelets_halve_the_error(study):
    """Wavelets about halve the test error on MNIST (to 0.35 to 0.7 of it)."""
    error = means(study, "features", "test_error")
    pixels, wavelets = error["pixels"], error["gabor_wavelets"]
    return 0.35 <= wavelets / pixels <= 0.7, in_words(pixels, wavelets)


@needs(dataset="mnist", weight_decay=0.0, gamma=PAPERS_BANDWIDTHS)
def norm_does_not_order_features(study):
    """The norm does not order test errors: with wavelets it is larger, and the error smaller."""
    error, norm = means(study, "features", "test_error"), means(study, "features", "l2_norm")
    pixels, wavelets = norm["pixels"], norm["gabor_wavelets"]
    holds = wavelets > pixels and error["gabor_wavelets"] < error["pixels"]
    return holds, f"norms {pixels:.0f} and {wavelets:.0f}"


@needs(features="pixels", dataset="mnist", weight_decay=0.0, train_size=None)
def papers_norm_of_pixels_is_that_of_coefficients(study):
    """The paper's norm for raw pixels, 220, is the mean over classes of ‖α‖₂ (within 3 %)."""
    norm = study.runs["coefficient_norm"].mean()
    return abs(norm / 220 - 1) <= 0.03, f"{norm:.0f}, while ‖f‖ is {study.runs['l2_norm'].mean():.0f}"


@needs(features="gabor_wavelets", weight_decay=0.0, train_size=LAPTOP_IMAGES)
def norm_does_not_order_bandwidths(study):
    """Nor does it order those of several bandwidths on the same wavelets."""
    runs = study.runs.sort_values(["l2_norm", "test_error"])
    evidence = ", ".join(f"{run.l2_norm:.0f}: {percent(run.test_error, 2)}" for run in runs.itertuples())
    return not runs["test_error"].is_monotonic_increasing, evidence


@needs(dataset="cifar10", weight_decay=0.0, num_filters=ALL_FILTERS)
def convolutions_halve_the_error(study):
    """Random convolutions make a third to two thirds of the errors of pixels on CIFAR-10."""
    error = means(study, "features", "test_error")
    pixels, convolutions = error["pixels"], error["random_convolutions"]
    return 1 / 3 <= convolutions / pixels <= 2 / 3, in_words(pixels, convolutions)


@needs(features="random_convolutions", num_filters=ALL_FILTERS)
def regularization_helps_on_cifar10(study):
    """With them, ℓ2 regularization takes off 1 to 4 points."""
    error = means(study, "weight_decay", "test_error")
    return 0.01 <= error[0.0] - error[RIDGE] <= 0.04, in_words(error[0.0], error[RIDGE])


@needs(dataset="mnist", gamma=PAPERS_BANDWIDTHS)
def regularization_does_not_help_on_mnist(study):
    """On MNIST it takes off less than 0.1 points."""
    error = means(study, ["features", "weight_decay"], "test_error").unstack().loc[["pixels", "gabor_wavelets"]]
    holds = (error[0.0] - error[RIDGE] < 0.001).all()
    return holds, f"{in_words(*error[0.0])} without, {in_words(*error[RIDGE])} with"


EXPERIMENT = Experiment(
    claim="Solving for the kernel machine of least norm through all labels generalizes, on small benchmarks with the "
    "right preprocessing very well; yet the norm does not order test errors.",
    locator="Table 3, Section 5",
    runs=(*INTERPOLATING, *REGULARIZED, *HALF),
    laptop=tuple(map(smaller, (*INTERPOLATING, *REGULARIZED, *TWO_SIDED, *BANDWIDTHS))),
    table=table,
    figure=figure,
    checks=[
        every_label_is_fitted,
        wavelets_halve_the_error,
        norm_does_not_order_features,
        norm_does_not_order_bandwidths,
        papers_norm_of_pixels_is_that_of_coefficients,
        convolutions_halve_the_error,
        regularization_helps_on_cifar10,
        regularization_does_not_help_on_mnist,
    ],
)
