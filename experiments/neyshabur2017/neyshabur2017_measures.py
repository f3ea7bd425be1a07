"""Which measures of a trained network tell true from random labels, and which order its test error?

42 runs at the laptop scale: 500 to 4,000 images of MNIST at a width of 128, and widths 32 to 256 at 1,000 images, three
seeds, in three and a half minutes on one core. The 90 runs at the paper's scale are for a GPU.

Expected: norms over the margin are larger for random labels, and more so with more images; sharpness alone does not
order test errors. Which measure orders them, over images and over widths, was open to us.

Found at laptop scale: all norms tell the labels apart in each of seven settings, and so do sharpness, PAC-Bayes
sharpness, the effective rank, and the mere distance from the first weights. The margin alone does not: random labels
end with margins as large. The top Hessian eigenvalue and the Fisher-Rao norm do not always. For random labels spectral
norms over the margin grow with the number of images, from 8.1 to 13; for true ones they fall, from 4.5 to 3.7.

One measure alone has the order of the test error both over images and over widths: magnitude-aware PAC-Bayes sharpness,
with τ 0.67 and 0.52. Most others go with the images and not with the widths, where their τ is at most 0.39. Distance,
spectral-Frobenius norms over the margin and effective rank grow with the images, against the test error (τ -0.79, -0.58
and -0.94). Test errors differ little with the width, 11.3 to 12.5 %, so τ over widths is known less well than τ over
images.
"""

from dataclasses import replace

from rethink_gen import Experiment
from rethink_gen.analysis.declare import lines
from rethink_gen.papers.neyshabur2017.protocol import BASE, MEASURES, model, runs

LAPTOP_WIDTH, LAPTOP_SIZE = 128, 1000
PAPER_WIDTH, PAPER_SIZE = 512, 10_000
LAPTOP = runs(
    replace(BASE, test_size=2000),
    sizes=(500, 1000, 2000, 4000),
    width=LAPTOP_WIDTH,
    widths=(32, 64, 128, 256),
    size=LAPTOP_SIZE,
    seeds=3,
)
INVERSE = "margin"  # the only measure that is small where capacity is large
DRAWN = ("spectral(over_margin=true)", "pac_bayes", "fisher_rao")
ORDERS = 0.5  # the least τ of a measure that orders the test error


def measured(frame):
    """The frame with measures under the names of the table, the larger the more capacity."""
    return frame.assign(
        **{told: 1 / frame[name] if name == INVERSE else frame[name] for name, told in MEASURES.items()}
    )


def settings(study):
    """The runs of each number of images, at one width; and those of each width, at one number of images."""
    frame = measured(study.runs) if len(study.runs) else study.runs
    at_paper = study.experiment.scale == "paper"
    width, size = (PAPER_WIDTH, PAPER_SIZE) if at_paper else (LAPTOP_WIDTH, LAPTOP_SIZE)
    return frame[frame["model"].eq(model(width))], frame[frame["train_size"].eq(size)]


def told_apart(frame, measure):
    """For each setting of the frame, whether all runs on random labels have a larger value than all on true ones."""
    return [
        runs.loc[runs["corruption"].eq("random_labels"), measure].min()
        > runs.loc[runs["corruption"].eq("true_labels"), measure].max()
        for _, runs in frame.groupby(["model", "train_size"])
    ]


def tau(frame, measure):
    """Kendall's τ of a measure and the test error, over the runs on true labels."""
    true = frame[frame["corruption"].eq("true_labels")]
    return true[measure].corr(true["test_error"], method="kendall", min_periods=2)


def table(study):
    """A row for each measure; values are means at the most images."""
    import pandas as pd

    by_size, by_width = settings(study)
    everything = measured(study.runs) if len(study.runs) else study.runs
    rows = []
    for measure in MEASURES.values() if len(by_size) else ():
        most = by_size[by_size["train_size"].eq(by_size["train_size"].max())].groupby("corruption")[measure].mean()
        apart = told_apart(everything, measure)
        rows.append(
            {
                "measure": measure,
                "true labels": most.get("true_labels"),
                "random labels": most.get("random_labels"),
                "told apart": f"{sum(apart)} of {len(apart)}",
                "τ over images": tau(by_size, measure),
                "τ over widths": tau(by_width, measure),
            }
        )
    return pd.DataFrame(rows)


def norms_over_the_margin_tell_the_labels_apart(study):
    """At every number of images, spectral and path norms over the margin are larger for random labels."""
    by_size, _ = settings(study)
    found = {name: told_apart(by_size, name) for name in MEASURES.values() if "/ margin" in name}
    wanted = [name for name in found if "spectral norms" in name or "path norm" in name]
    return all(all(found[name]) for name in wanted), "; ".join(
        f"{name} at {sum(each)} of {len(each)}" for name, each in found.items()
    )


def more_random_labels_need_larger_norms(study):
    """With more images, spectral norms over the margin grow for random labels, and not for true ones."""
    name = MEASURES["spectral(over_margin=true)"]
    mean = settings(study)[0].groupby(["corruption", "train_size"])[name].mean().unstack(0)
    first, last = mean.iloc[0], mean.iloc[-1]
    holds = last["random_labels"] > first["random_labels"] and last["true_labels"] <= first["true_labels"]
    return holds, ", ".join(
        f"{corruption.replace('_', ' ')}: {first[corruption]:.3g} to {last[corruption]:.3g}" for corruption in mean
    )


def sharpness_alone_does_not_order_the_test_error(study):
    """Sharpness without norms does not order the test error: τ is below 0.5 over images, over widths, or over both."""
    taus = [tau(frame, MEASURES["sharpness"]) for frame in settings(study)]
    return min(taus) < ORDERS, f"τ {taus[0]:.2f} over images, {taus[1]:.2f} over widths"


def sharpness_with_norms_does(study):
    """Magnitude-aware PAC-Bayes sharpness tells all labels apart, and τ is at least 0.5 over images and over widths."""
    name = MEASURES["pac_bayes"]
    apart = told_apart(measured(study.runs), name)
    taus = [tau(frame, name) for frame in settings(study)]
    return all(apart) and min(taus) >= ORDERS, (
        f"told apart in {sum(apart)} of {len(apart)} settings; τ {taus[0]:.2f} over images, {taus[1]:.2f} over widths"
    )


EXPERIMENT = Experiment(
    claim="Norms over the margin tell networks that learned true labels from those that memorized random ones; "
    "sharpness orders test errors if it is taken together with norms.",
    locator="Sections 3 and 4, Figures 1 to 3",
    runs=runs(
        replace(BASE, dataset="cifar10"),
        sizes=(1000, 2000, 5000, 10_000, 20_000, 50_000),
        width=PAPER_WIDTH,
        widths=(32, 128, 512, 2048),
        size=PAPER_SIZE,
        seeds=5,
    ),
    laptop=LAPTOP,
    smoke=LAPTOP,  # the widths of the paper scale take minutes on digits
    table=table,
    figure=lines(
        x="train_size",
        y=[MEASURES[name] for name in DRAWN],
        hue="corruption",
        where={"model": [model(LAPTOP_WIDTH), model(PAPER_WIDTH)]},
        derive=measured,
        log="xy",
    ),
    checks=[
        norms_over_the_margin_tell_the_labels_apart,
        more_random_labels_need_larger_norms,
        sharpness_alone_does_not_order_the_test_error,
        sharpness_with_norms_does,
    ],
)
