"""A small version of grokking (Power et al. 2022), with corrupted labels as in Doshi et al. 2024; all choices are ours.

Power et al. train a transformer of two layers and 400,000 weights on equations such as a + b = c (mod 97); it fits half
of them within 1,000 steps, and knows the other half much later. The authors' code is openai/grok. Doshi et al. (arXiv
2310.13061, "To grok or not to grok") corrupt a share of the labels, and find with weight decay, in their abstract, two
stages: high accuracy on training and test data first, then the wrong labels are unlearned. Both show figures and no
table, so no number of theirs stands here.

Our choices:

* Addition mod 97, all 9,409 pairs, a half of them to train on; the data set is `modular_addition`.
* A network that needs seconds: one hidden layer of 256 units with the activation x², as Gromov 2023 (arXiv 2301.02679)
  has it; 74,849 weights with He's initialization; no whitening.
* The squared error, and all training examples in one batch, so that an epoch is one step. AdamW with a constant rate of
  0.01 and a weight decay of 1.
* A wrong label is another class, drawn uniformly (`uniform_wrong`); at level 1 all labels are drawn at random
  (`random_labels`).
* 400 steps; with fewer examples 1,500. Three seeds; the split is the same for all.
* Laptop and paper scale are the same.
"""

from dataclasses import replace

from rethink_gen.runs import Run, grid

HALF = 4704
FEWER = (2600, 3300)
LEVELS = (0.0, 0.2, 0.4)
WRONG, RANDOM = "uniform_wrong", "random_labels"

BASE = Run(
    dataset="modular_addition",
    train_size=HALF,
    batch_size=HALF,
    whitening=False,
    model="mlp(hidden=256,activation=square)",
    optimizer="adamw",
    learning_rate=0.01,
    schedule="constant",
    weight_decay=1.0,
    loss="squared_error",
    epochs=400,
    measurements=60,
)


def runs(seeds: int) -> tuple[Run, ...]:
    """True, partly wrong and random labels of a half; without weight decay, where some are wrong; fewer examples."""
    fewer = (replace(BASE, train_size=size, batch_size=size, epochs=1500) for size in FEWER)
    settings = (
        *grid(BASE, corruption=(WRONG,), corruption_level=LEVELS),
        replace(BASE, corruption=RANDOM),
        replace(BASE, corruption=WRONG, corruption_level=LEVELS[1], weight_decay=0.0),
        *(replace(run, corruption=WRONG, corruption_level=LEVELS[0]) for run in fewer),
    )
    return tuple(run for setting in settings for run in grid(setting, seed=range(seeds)))
