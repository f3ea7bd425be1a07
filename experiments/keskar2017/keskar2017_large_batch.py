"""Large batches end in sharper minima and generalize worse: F1 on MNIST.

Paper scale, not run: 60,000 images, batches of 256 and 6,000, five seeds; 10 runs, by our estimate 2 hours of one core.
Laptop scale, our choice: the first 5,000 images, batches of 64 and 500 (a tenth, as in the paper), one seed; 2 runs;
otherwise the same, with sharpness at ε = 0.001 in all dimensions alone. The smoke scale leaves sharpness out.

Expected: both fit the training set; with large batches test accuracy is a little lower, sharpness many times higher,
and the weights stay nearer to where they began.

Found at laptop scale, with one seed: the reverse. Large batches are right on 94.9 % of the test images, small ones on
93.9 %; their sharpness is 0.46 against 590. Small batches go 2.9 times as far. Our reading, not tested: small batches
have not settled at a constant rate (training loss 0.025, large batches 0.0004), so that slopes at their weights are
steep, and the search, which begins at the weights, soon finds high losses; where large batches end, slopes are so small
that ten iterations hardly leave the place. So this scale does not test the claim; the paper's own may. The runs took a
minute of one core, in 6 on a busy machine.
"""

from dataclasses import replace

from rethink_gen import Experiment
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.keskar2017.protocol import BASE, SHARPNESS, runs

PAPER = runs(BASE, small=256, large=6000, seeds=5)
SMALL = replace(BASE, train_size=5000, measures=("distance_from_initial", SHARPNESS[0]))
LAPTOP = runs(SMALL, small=64, large=500, seeds=1)
DIGITS = replace(BASE, dataset="digits", train_size=256, test_size=128, epochs=4, measures=("distance_from_initial",))
SMOKE = runs(DIGITS, small=16, large=64, seeds=1)


def with_batch(frame):
    """The frame with small or large for each run; a large batch is a tenth of the images or more."""
    large = frame["batch_size"] * 10 >= frame["num_train"]
    return frame.assign(batch=large.map({False: "small", True: "large"}))


def measured(study):
    """The kinds of sharpness that the runs of this scale measure."""
    return [name for name in SHARPNESS if name in study.experiment.runs[0].measures]


def table(study):
    """Beside the paper."""
    metrics = ["train_accuracy", "test_accuracy", *measured(study)]
    return tables.beside_paper(with_batch(study.runs), "f1", metrics=metrics, paper="keskar2017")


def figure(study):
    """Test accuracy, sharpness and distance against the size of the batch."""
    metrics = ["test_accuracy", *measured(study)[:1], "distance_from_initial"]
    return figures.against(study.curves, "batch_size", metrics, hue="model", log="x")


def of_batches(study, metric):
    """A metric at the last epoch, of small and of large batches: means over seeds."""
    values = with_batch(study.runs).groupby("batch")[metric].mean()
    return values["small"], values["large"]


def both_fit(study):
    """With both sizes of batches the training accuracy is above 99 %."""
    small, large = of_batches(study, "train_accuracy")
    return min(small, large) > 0.99, f"{percent(small)} and {percent(large)}"


def large_batches_generalize_worse(study):
    """Test accuracy is lower with large batches."""
    small, large = of_batches(study, "test_accuracy")
    return large < small, f"{percent(large, 2)} against {percent(small, 2)}"


def large_batches_end_in_sharper_minima(study):
    """The minima of large batches are sharper."""
    pairs = {name: of_batches(study, name) for name in measured(study)}
    words = "; ".join(f"{name} {large:.3g} against {small:.3g}" for name, (small, large) in pairs.items())
    return all(large > small for small, large in pairs.values()), words


def small_batches_go_farther(study):
    """With small batches the weights end at least three times as far from where they began: 3 to 10 in the paper."""
    small, large = of_batches(study, "distance_from_initial")
    return small >= 3 * large, f"{small:.1f} against {large:.1f}, {small / large:.1f} times"


EXPERIMENT = Experiment(
    claim="Training with large batches ends in sharper minima than with small ones, and generalizes worse.",
    locator="Tables 2 to 4, F1; Section 2.2",
    runs=PAPER,
    laptop=LAPTOP,
    smoke=SMOKE,
    table=table,
    figure=figure,
    checks=[both_fit, large_batches_generalize_worse, large_batches_end_in_sharper_minima, small_batches_go_farther],
)
