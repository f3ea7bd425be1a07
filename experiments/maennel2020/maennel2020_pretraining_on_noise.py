"""Pre-trained on random labels, then trained on true labels of other images: faster or slower than from a fresh start?

Paper scale, not run, convolutional, for a GPU: VGG-16, 20,000 images of CIFAR-10 for each of the two trainings, five
seeds; 30 runs. Laptop scale: a network of 512 and 256 hidden units, 2,000 and 2,000 images, three seeds; 18 runs in 8
minutes on one core that other work shared, with OPENBLAS_NUM_THREADS=1. The sentences stood before any run. Settings
were then chosen on another seed: rates and epochs so that random labels are fitted, the scale of the first weights and
the number of principal components so that an alignment could be seen.

Expected: where weights are scaled back, pre-training helps, and the first layer alone as well. Upper layers have
specialized after a long pre-training, so that with them it is slower than with the first layer alone. The covariance
of first-layer weights shares eigenvectors with that of the inputs, also of images that were not trained on.

Found at laptop scale: pre-training helps, the long one in every seed. In epochs 1 to 5 the training
accuracy is 31.0 % from a fresh start, 33.2 % after 5 epochs of pre-training and 39.7 % after 60, scaled back. Not
scaled back it is 47.6 %: much of what looks like transfer is the size of the weights. Upper layers do not hurt here:
the first layer alone gives 36.2 %, less than both hidden layers. No start is slower than a fresh one, and all end at
30 to 32 % of the test images, so what random labels teach is speed alone.

Weights keep to the directions of the inputs. They no longer vary alike in all directions after 60 epochs of random
labels, as a random basis shows: its misalignment has gone from 0.019 above 1 to 0.059. In the principal components of
images that were not trained on it is 0.024, nearly as when they were drawn, 0.018. True labels, from a fresh start,
first turn the weights away from the inputs, to 0.058 at epoch 4; after the long pre-training they do not. With He's
larger first weights the same was there in trials, but smaller: they hardly leave their draw.
"""

from dataclasses import replace

from rethink_gen import Experiment
from rethink_gen.analysis import tables
from rethink_gen.analysis.declare import lines
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.maennel2020.protocol import BASE, WITH_INPUTS, WITH_RANDOM, runs

FRESH, ITSELF = "fresh", "the pre-training"
EARLY = (1, 5)  # the measured epochs whose training accuracy tells how fast a network learns
# What is shown of the measures: how far above 1 they are.
EXCESS = {WITH_INPUTS: "excess misalignment, inputs", WITH_RANDOM: "excess misalignment, random basis"}
AT_START = {name: f"{name}, at the start" for name in EXCESS.values()}


def name_of(epochs, layers=None, rescale=True):
    """How a start is called: by its epochs of pre-training, and by which weights it takes from there."""
    if not epochs:
        return FRESH
    taken = "first layer" if layers == 1 else "all but the last"
    return f"{epochs} epochs, {taken}{'' if rescale else ', not scaled back'}"


def with_start(frame):
    """The frame with a column that says how each run begins, and with what is shown of the measures."""
    fields = zip(frame["pretrain_epochs"], frame["pretrain_layers"], frame["pretrain_rescale"], strict=True)
    start = [name_of(*each) if not skip else ITSELF for skip, each in zip(frame["train_skip"], fields, strict=True)]
    return frame.assign(start=start, **{name: frame[measure] - 1 for measure, name in EXCESS.items()})


def of_true_labels(frame):
    """The runs on true labels, without the pre-training itself."""
    return with_start(frame)[lambda rows: rows["start"].ne(ITSELF)]


def summary(study):
    """A row for each run: how it begins, its misalignment then, and how fast it learns."""
    curves, ends = with_start(study.curves), with_start(study.runs)
    early = curves[curves["epoch"].between(*EARLY)].groupby("run")["train_accuracy"].mean()
    first = curves[curves["epoch"].eq(0)].set_index("run")
    ends = ends.assign(early_train_accuracy=ends["run"].map(early))
    return ends.assign(**{column: ends["run"].map(first[name]) for name, column in AT_START.items()})


def table(study):
    """A row for each start."""
    metrics = [*AT_START.values(), "early_train_accuracy", "train_accuracy", "test_accuracy"]
    return tables.mean_and_interval(summary(study) if len(study.runs) else study.runs, ["start"], metrics)


def longest(study):
    return max(run.pretrain_epochs for run in study.experiment.runs)


def faster(study, start, than):
    """Whether one start learns faster than another one in each seed, and how fast both are."""
    of = summary(study).pivot(index="seed", columns="start", values="early_train_accuracy")
    return (
        of[start] > of[than]
    ).all(), f"{percent(of[start].mean())} against {percent(of[than].mean())} in epochs 1 to 5"


def random_labels_are_fitted(study):
    """The long pre-training fits its random labels."""
    itself = summary(study)[lambda rows: rows["start"].eq(ITSELF)]
    return itself["fitted"].all(), f"training accuracy at least {percent(itself['train_accuracy'].min(), 2)}"


def pretraining_helps_where_weights_are_scaled_back(study):
    """After the long pre-training, scaled back, all layers but the last learn faster than a fresh start."""
    return faster(study, name_of(longest(study)), FRESH)


def first_layer_helps(study):
    """The first layer of the long pre-training, scaled back, learns faster than a fresh start."""
    return faster(study, name_of(longest(study), layers=1), FRESH)


def upper_layers_hurt(study):
    """The first layer of the long pre-training learns faster than all but the last: upper layers have specialized."""
    return faster(study, name_of(longest(study), layers=1), name_of(longest(study)))


def first_layer_is_aligned(study):
    """After the long pre-training, the excess misalignment with other images is less than half of that with a random
    basis.
    """
    rows = summary(study)[lambda rows: rows["start"].eq(name_of(longest(study)))]
    aligned, turned = (rows[column] for column in AT_START.values())
    drawn = summary(study)[lambda rows: rows["start"].eq(FRESH)]
    before = " and ".join(f"{drawn[column].mean():.3f}" for column in AT_START.values())
    return (2 * aligned < turned).all(), f"{aligned.mean():.3f} against {turned.mean():.3f}; as drawn {before}"


EXPERIMENT = Experiment(
    claim="A network that was trained on random labels learns true labels of other images faster than from a fresh "
    "start, since its first layer is aligned with the inputs; specialized upper layers can hide that.",
    locator="Sections 2 and 3, Figures 1, 2 and 5",
    runs=runs(
        replace(BASE, crop_size=28, train_size=20_000, test_size=None, model="vgg_16", epochs=40),
        short=10,
        long=80,
        seeds=5,
    ),
    laptop=(LAPTOP := runs(BASE, short=5, long=60, seeds=3)),
    smoke=LAPTOP,
    table=table,
    figure=lines(x="epoch", y=["train_accuracy", *EXCESS.values()], hue="start", derive=of_true_labels),
    checks=[
        random_labels_are_fitted,
        pretraining_helps_where_weights_are_scaled_back,
        first_layer_helps,
        upper_layers_hurt,
        first_layer_is_aligned,
    ],
)
