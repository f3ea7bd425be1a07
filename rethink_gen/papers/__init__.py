"""What the papers report, as data: zhang2017.csv holds the numbers of Zhang et al. 2017 (arXiv 1611.03530 v2).

One line per value, with columns that join onto the frame of results:

* item: table1, table4, fig1c, section5, protocol, …; `derived` is what follows from the paper's numbers;
* dataset, model, corruption, corruption_level, augmentations, metric: as in `results.frame`; blank where none applies;
* weight_decay, dropout: on, off or not stated, since the paper gives no coefficients;
* features, of a kernel: pixels, gabor_wavelets, random_convolutions;
* value, unit: fractions for accuracies and errors; the unit `text` for what is not a number ("failed to converge");
* locator: where in the paper;
* confidence: verbatim (read in a source that quotes it), two-sources, one-source, memory, computed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen.errors import unknown

if TYPE_CHECKING:
    import pandas as pd


def values(item: str | None = None) -> pd.DataFrame:
    """The paper's values, all or those of one item; `value` is a float, or a str where the unit is text."""
    import pandas as pd

    table = pd.read_csv(Path(__file__).parent / "zhang2017" / "values.csv", dtype=str, keep_default_na=False)
    if item is not None and item not in set(table["item"]):
        raise unknown("item of the paper", item, set(table["item"]))
    pairs = zip(table["value"], table["unit"], strict=True)
    table["value"] = pd.Series([value if unit == "text" else float(value) for value, unit in pairs], dtype=object)
    table["corruption_level"] = pd.to_numeric(table["corruption_level"])
    return table if item is None else table[table["item"] == item].reset_index(drop=True)


def label(name: object) -> str:
    """How the paper writes one of our names, for readers: `mlp_1x512` is MLP 1×512."""
    return NAMES.get(str(name), re.sub(r"(?<=\w)_(?=\w)", " ", str(name)))


NAMES = {
    "small_inception": "Inception",
    "small_inception_without_batch_norm": "Inception w/o BatchNorm",
    "small_alexnet": "AlexNet",
    "small_alexnet_he": "AlexNet, He last layer",
    "mlp_3x512": "MLP 3×512",
    "mlp_1x512": "MLP 1×512",
    "inception_v3": "Inception V3",
    "imagenet2012": "ImageNet",
    "crop+color": "crop, color",
    "cifar10": "CIFAR-10",
    "mnist": "MNIST",
    "gaussian": "Gaussian",
    "laplacian": "Laplacian",
    "gabor_wavelets": "Gabor wavelets",
    "l2_norm": "ℓ2 norm",
    "flip+rotation": "flip, rotation",
    "neyshabur_bound": "bound, Neyshabur",
    "golowich_bound": "bound, Golowich",
}
