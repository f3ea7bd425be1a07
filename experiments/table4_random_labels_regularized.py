"""Table 4: random labels with explicit regularizers, one at a time.

6 runs. The MLPs take 3 to 8 minutes on a CPU core at the paper's scale, the others need an accelerator. The paper moves
a "weight decay factor" from 0.95 to 0.999 for the two augmented rows and trains longer; 0.95 is the factor of the
learning rate per epoch, so that is how it is read here. Their training accuracy is the running one, over the
augmented images of the last epoch (Appendix E). Expected: regularizers do not prevent the fitting of random labels.
"""

from rethink_gen.analysis import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.papers.zhang2017.protocol import WEIGHT_DECAY, laptop_run, paper_run

MODELS = ("mlp_1x512", "mlp_3x512", "small_alexnet", "small_inception")
# Epochs of the augmented rows are not stated; "more" is read as six times as many.
PAPER_AUGMENTED = {"learning_rate_decay": 0.999, "epochs": 400}


def runs(run, **augmented):
    decayed = [run(model, corruption="random_labels", weight_decay=WEIGHT_DECAY[model]) for model in MODELS]
    crop = run("small_inception", corruption="random_labels", augmentations=("random_crop",))
    turn = run("small_inception", corruption="random_labels", augmentations=("flip", "rotation"))
    return (*decayed, *(type(crop)(**{**vars(row), **augmented}) for row in (crop, turn)))


def table(frame):
    return tables.beside_paper(frame, "table4")


def checks(frame):
    ends = frame[frame["last"]]
    decayed = ends[(ends["weight_decay"] > 0) & (ends["model"] != "small_alexnet")]
    fitted = decayed["epochs_to_fit"].notna()
    return [
        Check(
            "With weight decay, the small Inception and the MLPs still fit random labels (training accuracy of 99 %).",
            bool(fitted.all()) if decayed["model"].nunique() == 3 else None,
            f"{fitted.sum()} of {len(decayed)} runs fitted" if len(decayed) else "not run",
        )
    ]


EXPERIMENT = Experiment(
    claim="Even with explicit regularizers turned on, networks fit random labels.",
    locator="Table 4, Appendix E",
    runs=runs(paper_run, **PAPER_AUGMENTED),
    laptop=runs(laptop_run),
    table=table,
    figure=lambda frame: figures.dots(table(frame)),
    checks=checks,
)
