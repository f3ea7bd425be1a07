"""Table 3: kernel machines of least norm, and whether their norm orders their test errors.

9 runs. Raw MNIST has the first author's kernel; the other kernels, wavelets and filters are ours, chosen on held-out
training images: see features.py. At the paper's size the rows of pixels and of wavelets take 12 minutes each on two
CPU cores, and 10 GB of memory. Random convolutions of all 32,000 filters, 840 TFLOP with and without regularization,
took four minutes on an H200 that had other runs to do; on two cores they are a little over two hours at the speed of
the others, and 16 GB. Half the filters, which an hour is enough for there, stand beside them, without a verdict:

    rethink-gen run sec5_kernels --scale paper --only features=random_convolutions --only num_filters=32000
    rethink-gen run sec5_kernels --scale paper --only features=random_convolutions --only num_filters=16000

Laptop scale has a fifth of the images and a sixteenth of the filters.

Expected: 1.2 % on MNIST, half of it with wavelets, although the norm is then larger (about 220 and 390 in the paper,
which does not say of what); 46 % on CIFAR-10, 17 % with random convolutions and 15 % with ℓ2 regularization, which
does nothing for MNIST.

Found: the errors of MNIST, and of random convolutions: 17.65 %. ℓ2 regularization takes 0.3 points off that, not the
two of the paper: our λ was chosen on 10,000 images with 2,000 filters, where it takes off 1.9. Half the filters make
18.25 %, and 17.53 % with regularization. Not the norms: ours, √(tr αᵀKα) with one-hot labels, are 145 and 82. With
labels ±1 they are 2.02 times as large, ‖α‖ is 2.5 times as large (10,000 images). Neither gives 220, and a norm
depends on the bandwidth as much as on the features. The paper's point stands without its numbers: of five bandwidths
on the same wavelets, that with the largest norm makes the fewest errors (laptop scale).
"""

from dataclasses import replace
from typing import Any

from rethink_gen import papers
from rethink_gen.analysis import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.runs import KernelRun, grid

PIXELS = KernelRun(dataset="mnist", gamma=0.02)
WAVELETS = KernelRun(dataset="mnist", features="gabor_wavelets", gamma=3.0)  # of less, K is singular in float32
PIXELS_CIFAR10 = KernelRun(dataset="cifar10", gamma=0.01)
CONVOLUTIONS = KernelRun(dataset="cifar10", features="random_convolutions", gamma=0.16)
RIDGE = 0.01
INTERPOLATING = (PIXELS, WAVELETS, PIXELS_CIFAR10, CONVOLUTIONS)
REGULARIZED = tuple(replace(run, weight_decay=RIDGE) for run in (CONVOLUTIONS, PIXELS, WAVELETS))
HALF = tuple(replace(run, num_filters=CONVOLUTIONS.num_filters // 2) for run in (CONVOLUTIONS, REGULARIZED[0]))
BANDWIDTHS = grid(
    WAVELETS, gamma=(1.0, 2.0, 4.0, 8.0)
)  # on a laptop: does the norm order kernels on the same features?


def smaller(run):
    """For minutes on two cores: a fifth of the images or less, a sixteenth of the filters."""
    return replace(run, train_size=10_000, **({"num_filters": 2000} if run.features == CONVOLUTIONS.features else {}))


def table(frame, metrics=None):
    import pandas as pd

    rows = [tables.beside_paper(frame[~more(frame).any(axis=1)], "table3", metrics=metrics)]
    for name, mask in more(frame).items():
        found = tables.beside_paper(frame[mask].assign(scale="other"), "table3", metrics=metrics)
        found["features"] = found["features"].map(papers.label) + name
        rows.append(found[found["n"] > 0])
    return pd.concat(rows, ignore_index=True)


def more(frame):
    """A column per kernel machine that the paper does not have, true where a row is of it."""
    half = {f", {HALF[0].num_filters:,} filters": frame["num_filters"].eq(HALF[0].num_filters)}
    gammas = {f", γ = {run.gamma:g}": frame["gamma"].eq(run.gamma) for run in BANDWIDTHS}
    return frame.assign(**half, **gammas)[[*half, *gammas]]


def checks(frame):
    ends = frame[frame["last"]].sort_values("num_filters", ascending=False, kind="stable")  # the most there are
    on_wavelets = ends["features"].eq(WAVELETS.features) & ends["weight_decay"].eq(0)
    bandwidths = sorted((run["l2_norm"], run["test_error"]) for run in ends[on_wavelets].to_dict("records"))
    ends = ends[~ends["gamma"].isin([run.gamma for run in BANDWIDTHS])]

    def row(run) -> Any:
        same = ends["features"].eq(run.features) & ends["dataset"].isin([run.dataset, "digits"])
        found = ends[same & (ends["weight_decay"] > 0).eq(run.weight_decay > 0)]
        return found.iloc[0] if len(found) else None

    pixels, wavelets, cifar10, convolutions = interpolating = [row(run) for run in INTERPOLATING]
    regularized, *on_mnist = [row(run) for run in REGULARIZED]
    errors = lambda *runs: ", ".join(tables.percent(run["test_error"], 2) for run in runs)

    def check(statement, needed, holds, evidence):
        there = all(run is not None for run in needed)
        return Check(statement, bool(holds()) if there else None, evidence() if there else "not run")

    return [
        check(
            "Without regularization every training label is fitted.",
            interpolating,
            lambda: all(run["train_error"] == 0 for run in interpolating),
            lambda: f"4 runs, residuals of at most {max(run['residual'] for run in interpolating):.1g}",
        ),
        check(
            "Wavelets about halve the test error on MNIST (to 0.35 to 0.7 of it).",
            [pixels, wavelets],
            lambda: 0.35 <= wavelets["test_error"] / pixels["test_error"] <= 0.7,
            lambda: errors(pixels, wavelets),
        ),
        check(
            "The norm does not order test errors: with wavelets it is larger, and the error smaller.",
            [pixels, wavelets],
            lambda: wavelets["l2_norm"] > pixels["l2_norm"] and wavelets["test_error"] < pixels["test_error"],
            lambda: f"norms {pixels['l2_norm']:.0f} and {wavelets['l2_norm']:.0f}",
        ),
        check(
            "Nor does it order those of several bandwidths on the same wavelets.",
            bandwidths if len(bandwidths) > 1 else [None],
            lambda: [error for _, error in bandwidths] != sorted(error for _, error in bandwidths),
            lambda: ", ".join(f"{norm:.0f}: {tables.percent(error, 2)}" for norm, error in bandwidths),
        ),
        check(
            "Random convolutions make a third to two thirds of the errors of pixels on CIFAR-10.",
            [cifar10, convolutions],
            lambda: 1 / 3 <= convolutions["test_error"] / cifar10["test_error"] <= 2 / 3,
            lambda: errors(cifar10, convolutions),
        ),
        check(
            "With them, ℓ2 regularization takes off 1 to 4 points.",
            [convolutions, regularized],
            lambda: 0.01 <= convolutions["test_error"] - regularized["test_error"] <= 0.04,
            lambda: errors(convolutions, regularized),
        ),
        check(
            "On MNIST it takes off less than 0.1 points.",
            [pixels, wavelets, *on_mnist],
            lambda: all(
                plain["test_error"] - ridge["test_error"] < 0.001
                for plain, ridge in zip((pixels, wavelets), on_mnist, strict=True)
            ),
            lambda: f"{errors(pixels, wavelets)} without, {errors(*on_mnist)} with",
        ),
    ]


EXPERIMENT = Experiment(
    claim="Solving for the kernel machine of least norm through all labels generalizes, on small benchmarks with the "
    "right preprocessing very well; yet the norm does not order test errors.",
    locator="Table 3, Section 5",
    runs=(*INTERPOLATING, *REGULARIZED, *HALF),
    laptop=tuple(map(smaller, (*INTERPOLATING, *REGULARIZED, *BANDWIDTHS))),
    table=table,
    figure=lambda frame: figures.dots(table(frame, ["test_error"])),
    checks=checks,
)
