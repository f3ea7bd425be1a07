"""Large batches generalize worse because they are trained for fewer steps: F1 on MNIST in five regimes.

Paper scale, not run: F1 on 60,000 images, five seeds, and C1 and ResNet-44 on CIFAR-10, one seed; batches of 128 and
4,096; 50 and 200 epochs, with regime adaptation 1,600 and 6,400; 35 runs. Laptop scale, our choice: F1 on the first
4,096 images, batches of 32 and 512 at rates of 0.05 and 0.2, which is 0.1 scaled by the rule of the paper; 15 epochs,
with regime adaptation 240; three seeds; 15 runs. An epoch has 128 steps with small batches and 8 with large ones.

Expected: large batches lose test accuracy, the larger rate and ghost batch norm win a part of it back, and as many
steps as small batches take win all of it. The paper's numbers are from memory and get no verdict; their order does.

Found at laptop scale: the order is the paper's in all five regimes. Of the test images small batches classify 95.18 %
right and large ones 92.88 %; with the larger rate 94.17 %, with ghost batch norm 94.60 %, and with as many steps
95.78 %, which is above small batches in every seed. The intervals of the larger rate and of ghost batch norm overlap.
So the gap is not one of training: with the larger rate large batches have a training loss of 0.005, small ones 0.018,
and yet they generalize worse. The runs took 37 minutes on a machine with five times as many processes as cores.
"""

from dataclasses import replace

from rethink_gen import Experiment, needs
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.hoffer2017.protocol import C1, F1, REGIMES, RESNET, every, grids, regime_of_each, regimes

SMALL = replace(F1, train_size=4096, batch_size=32, learning_rate=0.05, epochs=15, schedule="step(at=3+6+9)")
DIGITS = replace(F1, dataset="digits", train_size=256, test_size=128, batch_size=8, epochs=1, schedule="constant")

PAPER = grids(regimes(F1, 4096), seed=range(5))
PAPER_CIFAR10 = [grids(regimes(run, 4096)) for run in (C1, RESNET)]
LAPTOP = grids(regimes(SMALL, 512), seed=range(3))
SMOKE = grids({regime: run.shrunk for regime, run in regimes(DIGITS, 32).items()})
REGIME_OF = regime_of_each(PAPER, *PAPER_CIFAR10, LAPTOP, SMOKE)


def with_regimes(frame):
    """The frame with the regime of each run, as `batch`, and the name of its model without options."""
    return frame.assign(batch=frame["run"].map(REGIME_OF), model=frame["model"].str.replace(r"\(.*", "", regex=True))


def table(study):
    """Beside the paper."""
    return tables.beside_paper(with_regimes(study.runs), "table1", paper="hoffer2017")


def figure(study):
    """Training loss and test error of F1 over steps."""
    frame = with_regimes(study.curves)
    frame = frame[frame["model"].eq("keskar_f1") & frame["step"].gt(0)]
    return figures.curves(frame, "step", ["train_loss", "test_error"], hue="batch", log="xy")


def accuracy(study):
    """Test accuracy of F1 by regime: means over seeds."""
    frame = with_regimes(study.runs)
    found = frame[frame["model"].eq("keskar_f1")].groupby("batch")["test_accuracy"].mean()
    return found, ", ".join(f"{name} {percent(found[name], 2)}" for name in REGIMES)


of_f1 = needs(dataset=["mnist", "digits"])


@of_f1
def large_batches_generalize_worse(study):
    """In as many epochs, test accuracy is lower with large batches than with small ones."""
    found, words = accuracy(study)
    return found["LB"] < found["SB"], words


@of_f1
def the_larger_rate_helps(study):
    """The √ rule for the rate makes test accuracy with large batches higher."""
    found, words = accuracy(study)
    return found["+LR"] > found["LB"], words


@of_f1
def ghost_batch_norm_helps(study):
    """Ghost batch norm makes it higher again."""
    found, words = accuracy(study)
    return found["+GBN"] > found["+LR"], words


@of_f1
def as_many_steps_close_the_gap(study):
    """With as many steps, test accuracy with large batches is no lower than with small ones."""
    found, words = accuracy(study)
    return found["+RA"] >= found["SB"], words


EXPERIMENT = Experiment(
    claim="Large batches generalize worse because they are trained for fewer steps: with a larger rate, ghost batch "
    "norm and as many steps as small batches, the gap is closed.",
    locator="Table 1, F1, C1 and ResNet-44",
    runs=every(PAPER) + sum(map(every, PAPER_CIFAR10), start=()),
    laptop=every(LAPTOP),
    smoke=every(SMOKE),
    table=table,
    figure=figure,
    checks=[
        large_batches_generalize_worse,
        the_larger_rate_helps,
        ghost_batch_norm_helps,
        as_many_steps_close_the_gap,
    ],
)
