"""Section 5 meets Section 2: kernel machines of least norm, fitted to labels of which more and more are random.

12 runs: Gaussian and Laplacian kernels on the pixels of MNIST, six levels. 5,000 images at laptop scale, seconds a run
on two CPU cores; all 60,000 at the paper's, about 12 minutes a run. The paper does not show this; Belkin, Ma and Mandal
(2018, "To understand deep learning we need to understand kernel learning") do. The Gaussian kernel is that of Table 3;
γ of the Laplacian is ours.

Expected: both fit all labels at every level; the test error grows with the level, up to chance; so do the norms, and
those of the Gaussian kernel faster, as its functions are smooth and noise is not.
"""

from dataclasses import replace

from rethink_gen.analysis import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.runs import KernelRun, grid

LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
KERNELS = ("gaussian", "laplacian")
RUN = KernelRun(dataset="mnist", corruption="random_labels")
RUNS = (
    *grid(RUN, corruption_level=LEVELS),
    *grid(replace(RUN, kernel="laplacian", gamma=0.1), corruption_level=LEVELS),
)


def table(frame):
    metrics = ["train_accuracy", "test_error", "l2_norm"]
    return tables.mean_and_interval(frame, ["kernel", "corruption_level"], metrics)


def checks(frame):
    ends = frame[frame["last"]]
    by_level = {kernel: ends[ends["kernel"] == kernel].groupby("corruption_level").mean(True) for kernel in KERNELS}
    complete = all(len(runs) == len(LEVELS) for runs in by_level.values())
    errors = {kernel: runs["test_error"] for kernel, runs in by_level.items()}
    norms = {kernel: runs["l2_norm"] for kernel, runs in by_level.items()} if complete else {}

    def check(statement, holds, evidence):
        return Check(statement, bool(holds()) if complete else None, evidence() if complete else "not run")

    growth = lambda kernel: norms[kernel].iloc[-1] / norms[kernel].iloc[0]
    each = lambda show: "; ".join(f"{kernel}: {show(kernel)}" for kernel in KERNELS)
    return [
        check(
            "Both kernels fit every label at every level.",
            lambda: (ends["train_error"] == 0).all(),
            lambda: f"in {len(ends)} runs, residuals of at most {ends['residual'].max():.1g}",
        ),
        check(
            "The test error grows with the level.",
            lambda: all(error.is_monotonic_increasing for error in errors.values()),
            lambda: each(lambda kernel: ", ".join(map(tables.percent, errors[kernel]))),
        ),
        check(
            "The norm grows with the level.",
            lambda: all(norm.is_monotonic_increasing for norm in norms.values()),
            lambda: each(lambda kernel: f"{norms[kernel].iloc[0]:.0f} to {norms[kernel].iloc[-1]:.0f}"),
        ),
        check(
            "Noise costs the Gaussian kernel more norm than the Laplacian.",
            lambda: growth("gaussian") > growth("laplacian"),
            lambda: each(lambda kernel: f"{growth(kernel):.1f} times that of true labels"),
        ),
    ]


EXPERIMENT = Experiment(
    claim="Kernel machines, solved in closed form, fit random labels as networks do.",
    locator="Section 5; Belkin et al. 2018",
    runs=RUNS,
    laptop=tuple(replace(run, train_size=5000) for run in RUNS),
    table=table,
    figure=lambda frame: figures.against(frame, "corruption_level", ["test_error", "l2_norm"], hue="kernel"),
    checks=checks,
)
