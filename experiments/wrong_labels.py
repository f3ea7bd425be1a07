"""How well seven scores of examples find 20 % of wrong labels, on MNIST and CIFAR-10.

An MLP and LeNet learn all labels by heart: two data sets, three seeds, 100 epochs. Paper scale: all images, the MLP, 6
runs of 6 and 13 minutes on one core that others used, too; one seed of each data set has been run. Laptop scale: 5,000
images of each, both networks, 12 runs; 8 minutes for those of the MLP in two processes of one core each, and 25 for
those of LeNet in one, on a machine that others used as well.

Expected: scores that look at the whole of training find wrong labels better than the loss at the end, when all labels
are fitted. On MNIST nearly all are found, for an MLP generalizes there; on CIFAR-10 fewer are. There a network that
generalizes better finds more.

Found at both scales: so it is. The mean loss over training has an AUROC of 0.985 on 5,000 images of MNIST and 0.994 on
all, and of 0.752 and 0.822 on CIFAR-10; the loss at the end has 0.917 and 0.831, and 0.679 and 0.658. So with more
images the scores of the whole of training get better, and the loss at the end does not. At paper scale, of the fifth of
the images that an epoch of first learning puts last, 97 % of MNIST and 57.5 % of CIFAR-10 have a wrong label. LeNet,
which classifies 40.9 % of the test images of CIFAR-10 at its best epoch where the MLP has 35.9 %, finds more at laptop
scale: its mean loss has 0.996 and 0.820. Two results we did not expect. The area under the margin tells less with every
epoch once wrong labels begin to be fitted: for the MLP on 5,000 images of CIFAR-10 its AUROC falls from 0.77 at epoch 3
to 0.67, below the loss at the end. Late epochs, when all margins are large, count as much as the early ones. And
forgetting events tell little on CIFAR-10 (0.599 at paper scale): this network forgets next to nothing after the first
epochs.
"""

from dataclasses import replace

from rethink_gen import Experiment, Run, for_each, grid, needs, papers
from rethink_gen.analysis import tables
from rethink_gen.analysis.declare import lines
from rethink_gen.analysis.tables import percent

BASE = Run(corruption="uniform_wrong", corruption_level=0.2, learning_rate_decay=0.99, record=("examples",))
SMALL = replace(BASE, train_size=5000, test_size=2000)
DATA, MLP, LENET = {"mnist": "MNIST", "cifar10": "CIFAR-10"}, BASE.model, "lenet"
SCORES = ("aum", "mean_loss", "consistency", "forgetting", "first_learned", "el2n", "last_loss")


def table(study):
    """A row for each data set, network and score."""
    import pandas as pd

    parts = [
        study.runs.assign(score=name, auroc=study.runs[f"auroc_{name}"], found=study.runs[f"precision_{name}"])
        for name in SCORES
        if f"auroc_{name}" in study.runs
    ]
    rows = pd.concat(parts) if parts else study.runs
    metrics = {"auroc": "auroc", "found": "precision_at_noise_rate"}
    return tables.mean_and_interval(rows.rename(columns=metrics), ["dataset", "model", "score"], [*metrics.values()])


def with_network(frame):
    """The frame with the name of each network and its data."""
    return frame.assign(network=frame["model"].map(papers.label) + ", " + frame["dataset"].map(DATA))


def means(study, judge):
    """The mean over seeds of `auroc` or `precision`, score → value."""
    return {name: study.runs[f"{judge}_{name}"].mean() for name in SCORES}


def in_words(values):
    return ", ".join(f"{name} {value:.3f}" for name, value in sorted(values.items(), key=lambda each: -each[1]))


def whole_of_training_finds_more(study):
    """{model} on {dataset}: in every run, the mean loss finds wrong labels better than the loss at the end."""
    whole, end = study.runs["auroc_mean_loss"], study.runs["auroc_last_loss"]
    return (whole > end).all(), f"AUROC {in_words(means(study, 'auroc'))}"


@needs(dataset="mnist", model=MLP)
def on_mnist_nearly_all_are_found(study):
    """On MNIST, the best score has an AUROC above 0.95 and a precision above 80 % at the noise rate."""
    area, share = means(study, "auroc"), means(study, "precision")
    best = max(area, key=area.__getitem__)
    return area[best] > 0.95 and share[best] > 0.8, f"{best}: AUROC {area[best]:.3f}, precision {share[best]:.1%}"


@needs(dataset="cifar10", model=[MLP, LENET])
def on_cifar10_the_better_network_finds_more(study):
    """On CIFAR-10, LeNet has a higher best test accuracy than the MLP, and its mean loss finds more wrong labels."""
    found = study.runs.groupby("model")[["auroc_mean_loss", "best_test_accuracy"]].mean()
    if LENET not in found.index:
        return None, "needs runs of LeNet"
    found = found.loc[[LENET, MLP]]
    words = "; ".join(
        f"{papers.label(model)} AUROC {row.auroc_mean_loss:.3f}, test accuracy {percent(row.best_test_accuracy)}"
        for model, row in found.iterrows()
    )
    return (found.iloc[0] > found.iloc[1]).all(), words


EXPERIMENT = Experiment(
    claim="Records of training find wrong labels, also after the network has learned them by heart.",
    locator="Scores of Toneva 2018, Huang 2019, Pleiss 2020, Paul 2021 and Jiang 2021",
    runs=grid(BASE, dataset=tuple(DATA), seed=range(3)),
    laptop=grid(SMALL, model=(MLP, LENET), dataset=tuple(DATA), seed=range(3)),
    table=table,
    figure=lines(
        x="epoch",
        y=["auroc_mean_loss", "auroc_aum", "auroc_last_loss", "train_accuracy_corrupted"],
        hue="network",
        derive=with_network,
    ),
    checks=[
        *for_each("model", [MLP, LENET], *for_each("dataset", [*DATA], whole_of_training_finds_more)),
        on_mnist_nearly_all_are_found,
        on_cifar10_the_better_network_finds_more,
    ],
)
