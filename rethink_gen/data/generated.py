"""A small generated replacement for ImageNet: JPEG files of various sizes, in the format of tensorflow-datasets (tfds).

It tests the code for ImageNet (reading, decoding, corruption, training) without ImageNet. It is generated in the cache
folder on first use, in a few seconds. No claim about learning rests on it.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

NAME = "generated_imagenet"
_SIZES = {"train": 160, "validation": 40}
_COLORS = {"red": (1, 0.2, 0.2), "green": (0.2, 1, 0.2), "blue": (0.2, 0.2, 1), "grey": (0.7, 0.7, 0.7)}
_ANGLES = (0, 36, 72, 108, 144)  # degrees
_CLASSES = [f"{color}_{angle}" for color in _COLORS for angle in _ANGLES]


def _picture(label: int, rng: np.random.Generator) -> bytes:
    """Generates a JPEG file: a grating with the color of its class, and its angle within 10 degrees."""
    from PIL import Image

    height, width = rng.integers(300, 420, 2)
    y, x = np.mgrid[:height, :width]
    angle = np.radians(_ANGLES[label % len(_ANGLES)] + rng.uniform(-10, 10))
    period, phase = rng.uniform(20, 60), rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
    color = [*_COLORS.values()][label // len(_ANGLES)]
    pixels = 128 + 60 * wave[..., None] * color + rng.normal(0, 15, (height, width, 1))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def builder_class() -> Any:
    """A tfds builder with the features of `imagenet2012` that does not need TensorFlow."""
    import tensorflow_datasets as tfds

    class GeneratedImagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        name = NAME
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=_CLASSES),
                "file_name": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, size) for split, size in _SIZES.items()}

        def _generate_examples(self, split, size):
            for i in range(size):
                name, label = f"{split}_{i:05d}.JPEG", i % len(_CLASSES)
                rng = np.random.default_rng([list(_SIZES).index(split), i])
                yield name, {"image": io.BytesIO(_picture(label, rng)), "label": label, "file_name": name}

    return GeneratedImagenet
