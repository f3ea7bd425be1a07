"""Figure 2b: test accuracy of the small Inception with and without batch normalization, no explicit regularizer.

2 runs, on true labels. Paper scale: 25,000 steps each, for an accelerator. Laptop scale: 512 images. Expected: batch
norm makes the curves smoother and adds 3 to 4 points of test accuracy.

Found at the paper's scale: 3.8 points (86.6 and 82.8 %), and half as many steps to fit. The curves are not smoother: at
fixed weights, those with batch norm are the ones that jump while the learning rate is high.
"""

from rethink_gen.analysis import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.papers.zhang2017.protocol import laptop_run, paper_run

MODELS = ("small_inception", "small_inception_without_batch_norm")


def checks(frame):
    ends = frame[frame["last"]]
    accuracy = ends.groupby("model")["test_accuracy"].mean()
    complete = set(MODELS) <= set(accuracy.index)
    gain = accuracy[MODELS[0]] - accuracy[MODELS[1]] if complete else 0.0
    evidence = f"{100 * gain:+.1f} points of test accuracy with batch norm" if complete else "not run"
    return [
        Check("Batch normalization improves test accuracy.", bool(gain > 0) if complete else None, evidence),
        Check("It does so by 3 to 4 points.", bool(0.025 <= gain < 0.045) if complete else None, evidence),
    ]


EXPERIMENT = Experiment(
    claim="Batch normalization, an implicit regularizer, improves generalization by 3 to 4 points, and no more.",
    locator="Figure 2b, Section 3.1",
    runs=tuple(paper_run(model) for model in MODELS),
    laptop=tuple(laptop_run(model) for model in MODELS),
    table=lambda frame: tables.mean_and_interval(frame, ["model"], ["train_accuracy", "test_accuracy", "steps_to_fit"]),
    figure=lambda frame: figures.curves(frame, "step", "test_accuracy", hue="model", dashed="train_accuracy"),
    checks=checks,
)
