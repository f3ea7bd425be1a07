"""How much width does noise need, and how long does it take? Validation accuracy and time to fit against capacity.

Two layers of equal width on MNIST, trained until every training label is fitted. First, widths against noise: none,
and 40 and 80 % of random labels, or of random inputs. Second, numbers of images, all of them with true labels, random
labels or random inputs, at one width. Laptop scale: 1,000 images and widths 16 to 256; 250 to 2,000 images at width
128; three seeds, 300 epochs at most. The best validation accuracy is that of the epochs until all labels are fitted.

Expected: with noise, validation is best at a larger width than without. Fitting takes longer with fewer units and with
more images, and more so with noise.

Found at laptop scale: few units slow fitting as the paper has it. At width 16 true labels take 3 times as many epochs
as at width 256, noise 14 to 31 times or more: 80 % of random labels are not fitted in 300 epochs. Noise hardly needs
more width to be at its best. Validation is best at width 256 without noise and with all noise but 40 % of random
labels, where it is best at 64. A width of 64 costs 2 points with 80 % of random labels, and at most 1.3 points
elsewhere. Random labels take 2.8 times as many epochs with 2,000 images as with 250, true labels hardly more. Random
inputs are fitted in 4 to 6 epochs, whatever their number. That may be due to scale: so few Gaussian images are nearly
orthogonal, and MNIST has 60,000 images. The runs took 4 minutes on one core that other work shared.
"""

from dataclasses import replace

from rethink_gen import Experiment, grid
from rethink_gen.analysis import figures, tables
from rethink_gen.papers.arpit2017.protocol import BASE, SMALL

LEVELS = (0.4, 0.8)
NOISE = ("random_labels", "gaussian")
KINDS = ("true_labels", *NOISE)
NOISE_KEYS = ["corruption", "corruption_level"]
METRICS = ["best_test_accuracy", "epochs_to_fit", "train_accuracy"]
ENOUGH = 0.01  # of accuracy, below that of the best width


def runs(base, widths, sizes, width, seeds):
    """Widths at one number of images, for each kind and level of noise; and numbers of images at one width."""
    base = replace(base, stop_at_train_accuracy=1.0)
    models = [f"mlp(hidden={each}+{each})" for each in (*widths, width)]
    return (
        *grid(base, model=models[:-1], seed=range(seeds)),
        *grid(base, model=models[:-1], corruption=NOISE, corruption_level=LEVELS, seed=range(seeds)),
        *grid(replace(base, model=models[-1]), train_size=sizes, corruption=KINDS, seed=range(seeds)),
    )


def with_width(frame):
    """The frame with the width of a layer, and the epochs until all labels were fitted, where they were."""
    widths = frame["model.hidden"].str.partition("+")[0].astype(int)
    return frame.assign(width=widths, epochs_to_fit=frame["epoch"].where(frame["train_accuracy"] == 1))


def of_widths(frame):
    """The runs of all widths at one number of images: without noise, and with some."""
    part = frame["corruption_level"]
    [size] = frame.loc[part.isin(LEVELS), "train_size"].unique()
    return with_width(frame[frame["train_size"].eq(size) & part.isin([0, *LEVELS])])


def of_sizes(frame):
    """The runs of all numbers of images at one width: without noise, and with nothing else."""
    frame, whole = with_width(frame), frame["corruption_level"].eq(1)
    [width] = frame.loc[whole, "width"].unique()
    return frame[frame["width"].eq(width) & (whole | frame["corruption"].eq("true_labels"))]


def table(study):
    """A row for each kind and level of noise, width and number of images."""
    frame = with_width(study.runs) if len(study.runs) else study.runs
    return tables.mean_and_interval(frame, [*NOISE_KEYS, "train_size", "width"], METRICS)


def figure(study):
    """Best validation accuracy and time to fit against the width, for each level of random labels."""
    frame = of_widths(study.curves)
    frame = frame[frame["corruption"] != "gaussian"]
    return figures.against(frame, "width", METRICS[:2], hue="corruption_level", log="x")


def best(frame):
    """Best validation accuracy: a row for each width, a column for each kind and level of noise; means over seeds."""
    return of_widths(frame).groupby(["width", *NOISE_KEYS])["best_test_accuracy"].mean().unstack([1, 2])


def epochs(frame, axis):
    """Epochs until all labels are fitted: a row for each kind and level of noise, a column for each value of an axis.

    Means over seeds. A run that never fitted all labels counts with all of its epochs.
    """
    values = frame["epochs_to_fit"].fillna(frame["epochs"])
    return values.groupby([frame[name] for name in (*NOISE_KEYS, axis)]).mean().unstack()


def in_words(values, show):
    return "; ".join(f"{' '.join(map(str, name)).replace('_', ' ')}: {show(value)}" for name, value in values.items())


def needs_more_width(study, noise):
    """Whether the least width within a point of the best validation accuracy is larger at each level of a noise."""
    accuracy = best(study.runs)
    enough = (accuracy >= accuracy.max() - ENOUGH).idxmax().loc[["true_labels", noise]]
    return (enough[noise] > enough["true_labels", 0.0]).all(), in_words(enough, "width {:.0f}".format)


def random_labels_need_more_width(study):
    """The least width within a point of the best validation accuracy is larger with random labels, at both levels, than
    without noise.
    """
    return needs_more_width(study, "random_labels")


def random_inputs_need_more_width(study):
    """It is so with random inputs, too."""
    return needs_more_width(study, "gaussian")


def noise_is_slowed_more_by_few_units(study):
    """Fitting takes longer at the least width than at the largest, and with any noise by a larger factor than without
    noise.
    """
    found = epochs(of_widths(study.runs), "width")
    times = found.iloc[:, 0] / found.iloc[:, -1]
    without, with_noise = times["true_labels", 0.0], times.drop("true_labels", level=0)
    return without > 1 and (with_noise > without).all(), in_words(times, "{:.1f} times".format)


def slowed_more_by_many_images(study, noise):
    """Whether the most images take more epochs than the fewest by a larger factor with a noise than without."""
    found = epochs(of_sizes(study.runs), "train_size")
    times = (found.iloc[:, -1] / found.iloc[:, 0]).droplevel(1)
    words = ", ".join(f"{name.replace('_', ' ')}: {times[name]:.1f} times" for name in (noise, "true_labels"))
    return times[noise] > max(1, times["true_labels"]), words


def random_labels_are_slowed_more_by_many_images(study):
    """The most images take more epochs to fit than the fewest, and with random labels by a larger factor than without
    noise.
    """
    return slowed_more_by_many_images(study, "random_labels")


def random_inputs_are_slowed_more_by_many_images(study):
    """With random inputs the factor is larger than without noise, too."""
    return slowed_more_by_many_images(study, "gaussian")


EXPERIMENT = Experiment(
    claim="With noise, validation is best at a larger width than without, and fitting takes longer, the fewer the "
    "units and the more the images.",
    locator="Section 3.3, Figures 5 and 6",
    runs=runs(
        replace(BASE, train_size=60_000),
        (64, 128, 256, 512, 1024, 2048, 4096),
        (1000, 3000, 10_000, 30_000, 60_000),
        width=4096,
        seeds=3,
    ),
    laptop=runs(
        replace(SMALL, epochs=300),
        (16, 32, 64, 128, 256),
        (250, 500, 1000, 2000),
        width=128,
        seeds=3,
    ),
    smoke=runs(SMALL, (16, 32), (64, 128), width=16, seeds=1),
    table=table,
    figure=figure,
    checks=[
        random_labels_need_more_width,
        random_inputs_need_more_width,
        noise_is_slowed_more_by_few_units,
        random_labels_are_slowed_more_by_many_images,
        random_inputs_are_slowed_more_by_many_images,
    ],
)
