"""Which norm is 220 for pixels and 390 for wavelets? Kernel machines of MNIST in float64, on more and more images.

The paper says that the ℓ2 norm of the solution of least norm is about 220 for pixels and 390 for wavelets, although
wavelets halve the test error. It does not say which norm, nor how wide the kernel is. For pixels the first author's
code has γ = 0.02. Our wavelets are those of features.py. We compare four norms: of the function, √(tr αᵀKα), with
one-hot labels and with labels ±1; the mean over classes of ‖α_k‖₂; and ‖α‖ of all classes together.

Laptop scale: 2,500, 5,000, 10,000 and 20,000 images, pixels, and wavelets with γ = 3, 2.5 and 2; 16 runs. They took 26
minutes on a core that others used, too. The sentences about 60,000 images have the parabola through the three largest
sizes, in logarithms of size and norm. Paper scale: γ = 2.3, too, and all 60,000 images, where K of wavelets with γ =
2.5 is singular in float32. In float64 a run takes 20 GB there, and half an hour of a core. One has been run, that of
wavelets with γ = 2.3, where the parabolas of the laptop scale cross 390, and the four smaller sizes of that γ.

Expected: one of the four norms is 220 for pixels, and 390 for wavelets at some bandwidth with half the test error.

Found at laptop scale: so it is for one, the mean over classes of ‖α_k‖₂. The parabola of pixels gives 222 at 60,000
images, which is what float32 measured. That of wavelets gives 160, 285 and 584 for γ = 3, 2.5 and 2, so 390 is near γ =
2.3. We had expected it between 2 and 3; the sentence says 2 to 2.5, which was read off these runs. Parabolas of 10,000
images and fewer are at most 5 % off at 20,000.

Found with all images: at γ = 2.3 the norm is 379, near the 390 for which this γ was chosen before the run; the residual
is 3e-13. So the paper's order and both of its numbers are those of one norm. No norm of the function fits: with labels
±1 it is 208, with one-hot labels 100, and for pixels 296 and 147 (parabolas), so the paper's order would be reversed.
The parabola through the smaller sizes of this γ gives 372, 2 % below. That of γ = 3 is 16 % below the 190 of float32
(sec5_kernels), where K is nearly singular; so it seems that float32 is high there. No sentence looks at that.

The test error is 0.49 %, and the paper has 0.6 %: that sentence does not hold. The wider the kernel, the fewer the
errors, and γ = 3 makes 0.52 % (sec5_kernels); so it may be that the paper's wavelets are others. At every size,
wavelets make 0.30 to 0.43 of the errors of pixels: at 20,000 images 0.71, 0.67 and 0.61 % for γ = 3, 2.5 and 2, against
2.01 %.

What is not shown: that the authors took this norm. The 222 of pixels has nothing tuned, the 390 has the bandwidth.
"""

import math

from rethink_gen import Experiment, KernelRun, grid, needs
from rethink_gen.analysis import figures
from rethink_gen.analysis.declare import by
from rethink_gen.analysis.tables import percent

PIXELS = KernelRun(dataset="mnist", gamma=0.02, precision="float64")  # the kernel of the first author
WAVELETS = KernelRun(dataset="mnist", features="gabor_wavelets", precision="float64")
GAMMAS = (3.0, 2.5, 2.0)  # float32 goes down to 3 with all images
TOLD = 2.3  # the bandwidth at which those tell 390 for all images
SIZES, ALL = (2500, 5000, 10_000, 20_000), 60_000
PAPERS = {"pixels": 220, "gabor_wavelets": 390}
PAPERS_ERRORS = {"pixels": 0.012, "gabor_wavelets": 0.006}
MEASURED = 222  # mean over classes of ‖α‖₂, of pixels and all images, in float32: see sec5_kernels
FUNCTIONS = {"l2_norm": "one-hot labels", "signed_norm": "labels ±1"}
NORMS = [*FUNCTIONS, "coefficient_norm", "total_coefficient_norm"]
NEAR = 0.1  # a norm is that of the paper


def machines(*sizes, gammas=GAMMAS):
    """Pixels, and wavelets with each bandwidth, of every size; small ones first."""
    return tuple(
        run for n in sizes for run in (*grid(PIXELS, train_size=n), *grid(WAVELETS, train_size=n, gamma=gammas))
    )


def figure(study):
    """Norms and errors against the number of images, beside the two norms of the paper."""
    import pandas as pd

    frame = study.curves
    if len(frame):
        names = frame["features"].map({"pixels": "pixels", "gabor_wavelets": "wavelets"})
        frame = frame.assign(machine=names + ", γ = " + frame["gamma"].map("{:g}".format))
    norms = [*PAPERS.values()]
    columns = {"coefficient_norm": norms, "l2_norm": norms, "test_error": [*PAPERS_ERRORS.values()]}
    return figures.against(
        frame,
        "train_size",
        [*columns],
        hue="machine",
        beside=("the paper", pd.DataFrame(columns, index=[ALL, ALL])),
        about="the paper: pixels 220 and 1.2 %, wavelets 390 and 0.6 %",
        log="xy",
    )


def law(runs, metric, size):
    """A metric at a size: measured, or on the parabola through the three largest sizes below it, in logarithms."""
    import numpy as np

    values = runs.set_index("train_size")[metric].sort_index()
    if size in values:
        return values[size]
    below = values[values.index < size][-3:]
    return math.exp(np.polyval(np.polyfit(np.log(below.index), np.log(below), 2), math.log(size)))


def at(size, runs, metric):
    """γ → a metric at a size, the smallest γ first."""
    return {gamma: law(machine, metric, size) for gamma, machine in runs.groupby("gamma")}


@needs(train_size=[*SIZES, ALL])
def every_label_is_fitted(study):
    """Every training label is fitted."""
    runs = study.runs
    return (runs["train_error"] == 0).all(), f"{len(runs)} runs, residuals of at most {runs['residual'].max():.1g}"


@needs(features="pixels", train_size=[*SIZES])
def sizes_tell_the_norm_of_all_images(study):
    """Of pixels, 5,000, 10,000 and 20,000 images tell the norm of the coefficients at 60,000 (within 10 %)."""
    told = law(study.runs, "coefficient_norm", ALL)
    return abs(told / MEASURED - 1) <= NEAR, f"{told:.0f}, measured {MEASURED} in float32"


@needs(train_size=[*SIZES])
def sizes_tell_the_norm_of_the_next(study):
    """Of pixels and wavelets, the norms at 2,500, 5,000 and 10,000 images tell that at 20,000 (within 10 %)."""
    runs, largest = study.runs, SIZES[-1]
    told = at(largest, runs[runs["train_size"] < largest], "coefficient_norm")
    measured = at(largest, runs, "coefficient_norm")
    evidence = ", ".join(f"{told[gamma]:.0f} for {measured[gamma]:.0f} (γ = {gamma:g})" for gamma in told)
    return all(abs(told[gamma] / measured[gamma] - 1) <= NEAR for gamma in told), evidence


@needs(features="pixels", train_size=[*SIZES, ALL])
def coefficients_of_pixels_have_the_papers_norm(study):
    """For pixels, the paper's 220 is the mean over classes of ‖α‖₂, and no norm of the function (within 10 %)."""
    norms = {name: law(study.runs, name, ALL) for name in NORMS}
    holds = {name for name, norm in norms.items() if abs(norm / PAPERS["pixels"] - 1) <= NEAR} == {"coefficient_norm"}
    functions = ", ".join(f"{norms[name]:.0f} ({words})" for name, words in FUNCTIONS.items())
    return holds, f"{norms['coefficient_norm']:.0f}; of the function {functions}"


@needs(features="gabor_wavelets", train_size=[*SIZES, ALL])
def coefficients_of_wavelets_pass_the_papers_norm(study):
    """The same norm passes 390 for wavelets between γ = 2 and 2.5."""
    norms = at(ALL, study.runs, "coefficient_norm")
    evidence = ", ".join(f"{norm:.0f} (γ = {gamma:g})" for gamma, norm in norms.items())
    return norms[2.5] < PAPERS["gabor_wavelets"] < norms[2.0], evidence


@needs(gamma=TOLD, train_size=ALL)
def all_images_have_the_norm_that_was_told(study):
    """With all images and γ = 2.3, the same norm is 390 for wavelets (within 10 %)."""
    [norm] = study.runs["coefficient_norm"]
    return abs(norm / PAPERS["gabor_wavelets"] - 1) <= NEAR, f"{norm:.0f}"


@needs(gamma=TOLD, train_size=ALL)
def all_images_have_the_papers_error(study):
    """With all images and γ = 2.3, wavelets have the paper's test error, 0.6 % (within 0.1 points)."""
    [error] = study.runs["test_error"]
    return abs(error - PAPERS_ERRORS["gabor_wavelets"]) <= 0.001, percent(error, 2)


@needs(train_size=[*SIZES])
def wavelets_halve_the_error(study):
    """At every size and bandwidth, wavelets make at most half the errors of pixels."""
    error = study.runs.pivot(index="train_size", columns="gamma", values="test_error")
    ratios = error.drop(columns=PIXELS.gamma).div(error[PIXELS.gamma], axis=0).to_numpy()
    return (ratios <= 0.5).all(), f"{ratios.min():.2f} to {ratios.max():.2f} of them"


@needs(features="gabor_wavelets", train_size=[*SIZES])
def larger_norms_make_fewer_errors(study):
    """At every size, the smaller γ, the larger the coefficients of wavelets, and the fewer the test errors."""
    runs = study.runs.sort_values("gamma")
    sizes = [of_size for _, of_size in runs.groupby("train_size")]
    holds = all(
        each["coefficient_norm"].is_monotonic_decreasing and each["test_error"].is_monotonic_increasing
        for each in sizes
    )
    return holds, "; ".join(", ".join(percent(error, 2) for error in each["test_error"]) for each in sizes)


EXPERIMENT = Experiment(
    claim="The norm of the machine of least norm is about 220 for pixels of MNIST and 390 for wavelets, with half the "
    "test error: both are the mean over classes of the norm of the coefficients.",
    locator="Section 5",
    runs=machines(*SIZES, ALL, gammas=(*GAMMAS, TOLD)),
    laptop=machines(*SIZES),
    table=by("features", "gamma", "train_size", metrics=["test_error", *NORMS]),
    figure=figure,
    checks=[
        every_label_is_fitted,
        sizes_tell_the_norm_of_all_images,
        sizes_tell_the_norm_of_the_next,
        coefficients_of_pixels_have_the_papers_norm,
        coefficients_of_wavelets_pass_the_papers_norm,
        all_images_have_the_norm_that_was_told,
        all_images_have_the_papers_error,
        wavelets_halve_the_error,
        larger_norms_make_fewer_errors,
    ],
)
