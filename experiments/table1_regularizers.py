"""Table 1: with and without explicit regularizers, on true and on random labels.

At the paper's scale 57 runs, three seeds each: an MLP takes 3 to 5 minutes on two CPU cores, the small AlexNet hours,
the small Inception needs an accelerator. At laptop scale 19 runs on 512 images.

Expected: training accuracy 100 % in every row; random labels at chance on the test set; regularizers worth a few points
and no more.
"""

from rethink_gen import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.paper.protocol import WEIGHT_DECAY, laptop_run, paper_run

# The rows of the table: (random crop, weight decay, corruption). Only networks that convolve are cropped.
ROWS = [
    ("random_crop", True, "true_labels"),
    ("random_crop", False, "true_labels"),
    (None, True, "true_labels"),
    (None, False, "true_labels"),
    (None, False, "random_labels"),
]
CROPPED = ("small_inception", "small_alexnet")
MODELS = ("mlp_1x512", "mlp_3x512", "small_alexnet", "small_inception", "small_inception_without_batch_norm")


def rows(run, seeds):
    return tuple(
        run(
            model,
            augmentations=(crop,) if crop else (),
            weight_decay=WEIGHT_DECAY[model] if decay else 0.0,
            corruption=corruption,
            seed=seed,
        )
        for seed in seeds
        for model in MODELS
        for crop, decay, corruption in ROWS
        if not crop or model in CROPPED
    )


def table(frame):
    return tables.beside_paper(frame, "table1", metrics=("train_accuracy", "test_accuracy"))


def checks(frame):
    ends = frame[frame["last"]] if len(frame) else frame
    random, plain = ends[ends["corruption"] == "random_labels"], ends[ends["corruption"] == "true_labels"]
    fitted = tables.fitted(random)
    chance = (random["test_accuracy"] - 0.1).abs() if len(random) else None
    unregularized = plain[(plain["weight_decay"] == 0) & (plain["augmentations"] == "")]
    regularized = plain.drop(unregularized.index)
    gap = [
        regularized[regularized["model"] == model]["test_accuracy"].max() - of_model["test_accuracy"].mean()
        for model, of_model in unregularized.groupby("model")
        if model in set(regularized["model"])
    ]
    return [
        Check(
            "Every network fits random labels (training accuracy of at least 99 %).",
            None if not len(random) else fitted == 1,
            f"{len(random)} runs on random labels, {tables.percent(fitted if len(random) else 0, 0)} of them fitted",
        ),
        Check(
            "On random labels, test accuracy is at chance (10 % ± 1).",
            None if chance is None else bool(chance.max() <= 0.01),
            "not run" if chance is None else f"the furthest is {tables.percent(chance.max())} from 10 %",
        ),
        Check(
            "Without explicit regularizers networks still generalize: the best regularizer adds less than 10 points.",
            None if not gap else bool(max(gap) < 0.1),
            "not run" if not gap else f"it adds at most {tables.percent(max(gap))}",
        ),
    ]


EXPERIMENT = Experiment(
    claim="Deep networks easily fit random labels; explicit regularization may improve generalization, but is neither "
    "necessary nor by itself sufficient for controlling generalization error.",
    locator="Table 1, Sections 2 and 3",
    runs=rows(paper_run, seeds=range(3)),
    laptop=rows(laptop_run, seeds=range(1)),
    table=table,
    figure=lambda frame: figures.dots(table(frame)),
    checks=checks,
)
