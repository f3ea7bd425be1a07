"""How well seven scores of examples find 20 % of wrong labels, on MNIST and CIFAR-10.

6 runs of an MLP that learns all labels by heart: two data sets, three seeds, 100 epochs. Paper scale: all images, 6 and
13 minutes a run on one core that others used, too; one seed of each has been run. Laptop scale: 5,000 images of each; 8
minutes in two processes of one core each, on a machine that three others used as well.

Expected: scores that look at the whole of training find wrong labels better than the loss at the end, when all labels
are fitted. On MNIST nearly all are found, for an MLP generalizes there; on CIFAR-10 fewer are.

Found at both scales: so it is. The mean loss over training has an AUROC of 0.985 on 5,000 images of MNIST and 0.994 on
all, and of 0.752 and 0.822 on CIFAR-10; the loss at the end has 0.917 and 0.831, and 0.679 and 0.658. So with more
images the scores of the whole of training get better, and the loss at the end does not. At paper scale, of the fifth of
the images that an epoch of first learning puts last, 97 % of MNIST and 57.5 % of CIFAR-10 have a wrong label. Two
results we did not expect. The area under the margin falls with every epoch after the labels are fitted, at laptop scale
on CIFAR-10 from 0.77 at epoch 3 to 0.67, below the loss at the end: late epochs, when all margins are large, count as
much as the early ones. And forgetting events tell little on CIFAR-10 (0.599 at paper scale): this network forgets next
to nothing after the first epochs.
"""

from dataclasses import replace

from rethink_gen import Experiment, Run, for_each, grid, needs
from rethink_gen.analysis import tables
from rethink_gen.analysis.declare import lines

BASE = Run(corruption="uniform_wrong", corruption_level=0.2, learning_rate_decay=0.99, record=("examples",))
DATA = ("mnist", "cifar10")
SCORES = ("aum", "mean_loss", "consistency", "forgetting", "first_learned", "el2n", "last_loss")


def table(study):
    """A row for each data set and score."""
    import pandas as pd

    parts = [
        study.runs.assign(score=name, auroc=study.runs[f"auroc_{name}"], found=study.runs[f"precision_{name}"])
        for name in SCORES
        if f"auroc_{name}" in study.runs
    ]
    rows = pd.concat(parts) if parts else study.runs
    metrics = {"auroc": "auroc", "found": "precision_at_noise_rate"}
    return tables.mean_and_interval(rows.rename(columns=metrics), ["dataset", "score"], [*metrics.values()])


def means(study, judge):
    """The mean over seeds of `auroc` or `precision`, score → value."""
    return {name: study.runs[f"{judge}_{name}"].mean() for name in SCORES}


def in_words(values):
    return ", ".join(f"{name} {value:.3f}" for name, value in sorted(values.items(), key=lambda each: -each[1]))


def whole_of_training_finds_more(study):
    """On {dataset}, the mean loss over training finds wrong labels better than the loss at its end, in every run."""
    whole, end = study.runs["auroc_mean_loss"], study.runs["auroc_last_loss"]
    return (whole > end).all(), f"AUROC {in_words(means(study, 'auroc'))}"


@needs(dataset="mnist")
def on_mnist_nearly_all_are_found(study):
    """On MNIST, the best score has an AUROC above 0.95 and a precision above 80 % at the noise rate."""
    area, share = means(study, "auroc"), means(study, "precision")
    best = max(area, key=area.__getitem__)
    return area[best] > 0.95 and share[best] > 0.8, f"{best}: AUROC {area[best]:.3f}, precision {share[best]:.1%}"


EXPERIMENT = Experiment(
    claim="Records of training find wrong labels, also after the network has learned them by heart.",
    locator="Scores of Toneva 2018, Huang 2019, Pleiss 2020, Paul 2021 and Jiang 2021",
    runs=grid(BASE, dataset=DATA, seed=range(3)),
    laptop=grid(replace(BASE, train_size=5000, test_size=2000), dataset=DATA, seed=range(3)),
    table=table,
    figure=lines(
        x="epoch", y=["auroc_mean_loss", "auroc_aum", "auroc_last_loss", "train_accuracy_corrupted"], hue="dataset"
    ),
    checks=[*for_each("dataset", DATA, whole_of_training_finds_more), on_mnist_nearly_all_are_found],
)
