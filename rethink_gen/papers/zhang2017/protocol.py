"""The training protocol of Zhang et al. 2017, and our choices where the paper is silent.

The paper states (Appendix A): center crop to 28×28, per-image whitening, SGD with momentum 0.9, an initial learning
rate of 0.1 for the small Inception and 0.01 for the small AlexNet and the MLPs, multiplied by 0.95 after each epoch,
and the same settings for true and corrupted data. These are the defaults of `Run` and the learning rates below.

Our choices, because the paper does not state them:

* The last layer of convolutional networks starts near zero. With He initialization there, the loss of the small AlexNet
  on 512 random labels stays at that of a constant guess (see the experiment alexnet_last_layer).
* Batch size 128, He initialization and zero biases (see models/initializers.py). With them the paper's schedule fits
  random labels.
* Epochs. After 100 epochs the learning rate is 0.6 % of its initial value. MLP 3x512 fits random labels by epoch 40. 64
  epochs are the 25,000 steps that Figure 1a shows for the small Inception.
* Weight decay ("the default coefficient for each model"): 1e-4, the default of the first author's released script. For
  the small AlexNet 4e-3, as in TensorFlow's CIFAR-10 tutorial for the same network. It acts on all kernels; in the
  tutorial it acts on the two hidden dense layers alone.
* Learning rate of the small Inception without batch norm: 0.01, as in a replication. At this scale we have not tried
  0.1; on 64 random labels neither rate fits (see the experiment inception_initialization).
* Precision of the small Inception at the paper's size: bfloat16; parameters, statistics and loss are float32. An H200
  trains it nearly twice as fast as with float32 and TF32 products (63 against 34 thousand images/s).

On ImageNet the paper reuses TensorFlow's Inception package of 2016, trained by 50 workers with asynchronous SGD. From
the package we take Inception V3, its augmentations, the constants of batch norm, the auxiliary head, label smoothing
0.1, dropout 0.2 and weight decay 4e-5. The paper switches augmentation, weight decay and dropout on and off (see
models/inception_v3.py and data/augmentations.py).

Our choices for ImageNet, not tried at this size: SGD with momentum 0.9 on batches of 256, with batch norm over the
whole batch (the package uses RMSProp with 32 examples per worker); an initial learning rate of 0.1, decayed after each
epoch so that it falls by the package's factor of 0.16 in 30 epochs; 100 epochs; evaluation of the weights, not of a
moving average; training accuracy on the first 50,000 images; bfloat16.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rethink_gen.runs import Run, grid

if TYPE_CHECKING:
    import pandas as pd

PAPER = {
    "small_inception": Run(model="small_inception", learning_rate=0.1, epochs=64, precision="bfloat16"),
    "small_inception_without_batch_norm": Run(
        model="small_inception_without_batch_norm", learning_rate=0.01, epochs=64, precision="bfloat16"
    ),
    "small_alexnet": Run(model="small_alexnet", learning_rate=0.01, epochs=100),
    "small_alexnet_he": Run(model="small_alexnet_he", learning_rate=0.01, epochs=100),
    "mlp_3x512": Run(model="mlp_3x512", learning_rate=0.01, epochs=40),
    "mlp_1x512": Run(model="mlp_1x512", learning_rate=0.01, epochs=100),
}
WEIGHT_DECAY = {model: 4e-3 if model == "small_alexnet" else 1e-4 for model in PAPER}


def paper_run(model: str, **changes: Any) -> Run:
    """A run with the paper's protocol, at the paper's size.

    Args:
      model: a key of PAPER.
      changes: fields of `Run` to change.
    """
    return replace(PAPER[model], **changes)


def laptop_run(model: str, **changes: Any) -> Run:
    """The same run on fewer images of CIFAR-10; it stops when it has fitted all of them.

    MLPs are cheap and train on the first 5,000 images; convolutional networks train on the first 512, in batches of 32.
    Per step, the learning rate decays about as fast as at the paper's size. The learning rate of the small Inception is
    scaled with the batch size, from 0.1 for 128 to 0.025 for 32; at 0.1 it started slowly.

    Args:
      model: a key of PAPER.
      changes: fields of `Run` to change.
    """
    many = {"train_size": 5000, "test_size": 5000, "learning_rate_decay": 0.995, "epochs": 100}  # 39 steps an epoch
    few = {"train_size": 512, "test_size": 512, "batch_size": 32, "learning_rate_decay": 0.998, "epochs": 60}  # 16
    small = {**(many if model.startswith("mlp") else few), "precision": "float32", "stop_at_train_accuracy": 1.0}
    run = replace(PAPER[model], **small)
    return replace(run, **{"learning_rate": 0.025 if model == "small_inception" else run.learning_rate, **changes})


IMAGENET = Run(
    dataset="imagenet2012",
    model="inception_v3",
    crop_size=299,
    whitening=False,
    batch_size=256,
    epochs=100,
    learning_rate=0.1,
    learning_rate_decay=0.94,  # 0.16 ** (1 / 30)
    label_smoothing=0.1,
    precision="bfloat16",
)
# Rows of Table 2: (augmentation, weight decay, dropout). Figure 2a shows three of the rows with true labels.
REGULARIZED, AUGMENTED, DECAYED, BARE = (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0)
IMAGENET_TRUE, IMAGENET_RANDOM = (REGULARIZED, AUGMENTED, DECAYED, BARE), ((0, 1, 1), DECAYED, BARE)


def imagenet_runs(settings: Iterable[tuple[int, int, int]], *, laptop: bool = False, **changes: Any) -> tuple[Run, ...]:
    """Runs on ImageNet, one for each setting of (augmentation, weight decay, dropout).

    Args:
      settings: 1 or 0 for each of the three.
      laptop: whether to replace Inception V3 by the small Inception, and ImageNet by 512 images of CIFAR-10.
      changes: fields of `Run` to change.
    """
    decay = WEIGHT_DECAY["small_inception"] if laptop else 4e-5
    base = laptop_run("small_inception", stop_at_train_accuracy=None, epochs=30) if laptop else IMAGENET
    return tuple(
        replace(
            base,
            augmentations=("crop", "color") if augmented else (),
            weight_decay=decay if decayed else 0.0,
            dropout=0.2 if dropped else 0.0,
            **changes,
        )
        for augmented, decayed, dropped in settings
    )


def with_settings(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds the column `setting`: the regularizers of a row in words, and whether its labels are random."""
    names = ("augmentation", "weight decay", "dropout")
    has = zip(frame["augmentations"] != "", frame["weight_decay"] > 0, frame["dropout"] > 0, strict=True)
    words = [", ".join(itertools.compress(names, row)) or "no regularizer" for row in has]
    random = frame["corruption"] == "random_labels"
    setting = [f"random labels, {word}" if hit else word for word, hit in zip(words, random, strict=True)]
    return frame.assign(setting=setting)


# Figures 1b and 1c are two views of the same runs. The paper does not state its levels.
CORRUPTION_LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LABEL_CORRUPTION_MODELS = ("mlp_1x512", "small_alexnet", "small_inception")


def label_corruption_runs(run: Callable[..., Run]) -> tuple[Run, ...]:
    """Runs of three networks at every level of label corruption. Level 0 is the true labels.

    Args:
      run: `paper_run` or `laptop_run`.
    """
    corrupted = {model: run(model, corruption="random_labels") for model in LABEL_CORRUPTION_MODELS}
    return sum(
        ((run(model), *grid(corrupted[model], corruption_level=CORRUPTION_LEVELS[1:])) for model in corrupted),
        (),
    )
