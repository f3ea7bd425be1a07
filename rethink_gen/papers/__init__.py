"""What papers report, as data: one folder for each paper, with paper.toml, and values.csv if it reports numbers.

paper.toml has title, authors, year and link. protocol.py is optional: the settings that the paper states, and our
choices where it states none. values.csv has one line for each value, with columns that join onto the frame of results:

* item: table1, table4, fig1c, section5, protocol, …; `derived` is what follows from the paper's numbers;
* dataset, model, corruption, corruption_level, augmentations, metric: as in `results.frame`; blank where none applies;
* weight_decay, dropout: on, off or not stated, since the paper gives no coefficients;
* loss: where the rows of an item differ in it; without this column, any;
* batch: small or large, or how large batches are trained, where the rows of an item differ in it; a column that the
  experiment derives;
* features, of a kernel: pixels, gabor_wavelets, random_convolutions;
* train_size: how many training examples the paper uses; without this column, or blank: all;
* value, unit: fractions for accuracies and errors; the unit `text` for what is not a number ("failed to converge");
* locator: where in the paper;
* confidence: verbatim (read in a source that quotes it), two-sources, one-source, memory (not checked against a source:
  shown, without a verdict), computed.
"""

from __future__ import annotations

import importlib
import math
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen.errors import UsageError, unknown

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent


class Paper(NamedTuple):
    """What a paper is called, and where it is."""

    name: str  # of its folders in papers/ and in experiments/
    title: str
    authors: str = ""
    year: int = 0
    link: str = ""

    @property
    def short(self) -> str:
        """The first author and the year."""
        return f"{re.split(r', | and ', self.authors)[0]} {self.year}" if self.authors else self.title

    @property
    def cited(self) -> str:
        """Authors, year and title in one line; of a paper that has no folder here, its name."""
        return f"{self.authors} {self.year}: {self.title}" if self.authors else self.title


def names() -> list[str]:
    """The papers that have a folder here, Zhang et al. first, then the oldest first."""
    return sorted((path.parent.name for path in HERE.glob("*/paper.toml")), key=order)


def find(name: str) -> Paper:
    """A paper by the name of its folder; one that has no folder here has its name as its title."""
    file = HERE / name / "paper.toml"
    if not name or not file.is_file():
        return Paper(name, name)
    return Paper(name, **tomllib.loads(file.read_text(encoding="utf-8")))


def order(name: str) -> tuple[bool, bool, int, str]:
    """Sorts papers by year, then by name, after the paper of this suite; experiments of no paper come last."""
    return (not name, name != "zhang2017", find(name).year or 9999, name)


def protocol(name: str) -> str:
    """The protocol of a paper and our choices, in words: the docstring of its protocol.py, if there is one."""
    module = f"{__name__}.{name}.protocol"
    if not name or not (HERE / name / "protocol.py").is_file():
        return ""
    return (importlib.import_module(module).__doc__ or "").strip()


def values(item: str | None = None, paper: str = "zhang2017") -> pd.DataFrame:
    """The values that a paper reports, all or those of one item; `value` is a float, or a str where the unit is text.

    Raises:
      UsageError: there is no such paper, no numbers of it, or no such item.
    """
    import pandas as pd

    if not paper or not (HERE / paper / "values.csv").is_file():
        if paper in names():
            raise UsageError(f"{paper}: there are no numbers of this paper to stand beside")
        raise unknown("paper", paper, names())
    table = pd.read_csv(HERE / paper / "values.csv", dtype=str, keep_default_na=False)
    if item is not None and item not in set(table["item"]):
        raise unknown("item of the paper", item, set(table["item"]))
    pairs = zip(table["value"], table["unit"], strict=True)
    table["value"] = pd.Series([value if unit == "text" else float(value) for value, unit in pairs], dtype=object)
    table["corruption_level"] = pd.to_numeric(table["corruption_level"])
    table["train_size"] = pd.to_numeric(table["train_size"]) if "train_size" in table else math.nan
    return table if item is None else table[table["item"] == item].reset_index(drop=True)


def label(name: object) -> str:
    """How papers write one of our names, for readers: `mlp_1x512` is MLP 1×512."""
    return NAMES.get(str(name), re.sub(r"(?<=\w)_(?=\w)", " ", str(name)))


NAMES = {
    "small_inception": "Inception",
    "small_inception_without_batch_norm": "Inception w/o BatchNorm",
    "small_alexnet": "AlexNet",
    "small_alexnet_he": "AlexNet, He last layer",
    "mlp_3x512": "MLP 3×512",
    "mlp_1x512": "MLP 1×512",
    "inception_v3": "Inception V3",
    "lenet": "LeNet",
    "mcnn": "5-layer CNN",
    "vgg": "VGG",
    "vgg_11": "VGG-11",
    "vgg_16": "VGG-16",
    "keskar_c1": "C1",
    "keskar_c2": "C2",
    "keskar_f1": "F1",
    "resnet": "ResNet",
    "resnet_18": "ResNet-18",
    "resnet_20": "ResNet-20",
    "resnet_32": "ResNet-32",
    "resnet_44": "ResNet-44",
    "preact_resnet_18": "PreAct ResNet-18",
    "wide_resnet": "wide ResNet",
    "densenet": "DenseNet",
    "mobilenet_v2": "MobileNetV2",
    "efficientnet": "EfficientNet",
    "shufflenet_v2": "ShuffleNetV2",
    "idlenet": "IdleNet",
    "xception": "Xception",
    "mixer": "MLP-Mixer",
    "vit": "ViT",
    "convnext": "ConvNeXt",
    "imagenet2012": "ImageNet",
    "crop+color": "crop, color",
    "cifar10": "CIFAR-10",
    "mnist": "MNIST",
    "gaussian": "Gaussian",
    "laplacian": "Laplacian",
    "gabor_wavelets": "Gabor wavelets",
    "l2_norm": "ℓ2 norm",
    "auroc": "AUROC",
    "coefficient_norm": "mean ‖α‖ of a class",
    "total_coefficient_norm": "‖α‖ of all classes",
    "signed_norm": "ℓ2 norm, labels ±1",
    "flip+rotation": "flip, rotation",
    "train_accuracy_corrupted": "wrong labels: as labelled",
    "train_recovered": "wrong labels: as they truly are",
    "train_confused": "wrong labels: as another class",
    "neyshabur_bound": "bound, Neyshabur",
    "golowich_bound": "bound, Golowich",
}
