"""What runs of every kind have: their data, a seed, and an id that follows from their fields."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, ClassVar, Self

from rethink_gen.coercion import SEED, coerce, setting
from rethink_gen.errors import UsageError, unknown

# Runs that differ in these alone are replicates.
SEEDS = ("seed", "init_seed", "order_seed", "corruption_seed")
# What the smoke scale has for ImageNet: networks for 299×299 pixels have no use for digits.
SMALL_IMAGENET: dict[str, Any] = {
    "dataset": "generated_imagenet",
    "train_size": 8,
    "test_size": 8,
    "batch_size": 4,
    "epochs": 2,
    "learning_rate": 0.0015,  # for a batch of 4 what 0.1 is for 256
}


@dataclass(frozen=True, kw_only=True)
class AnyRun:
    """What runs of every kind have: the data they see, what was done to them, and a seed.

    Numbers are coerced to their annotated type, so that 0 and 0.0 name the same run; values out of range are refused.
    """

    kind: ClassVar[str]  # of KINDS
    smoke: ClassVar[dict[str, Any]] = {"dataset": "digits", "train_size": 256, "test_size": 128}
    draws_data: ClassVar[bool] = False  # whether its solver draws the data; `dataset` is then a name and no source

    dataset: str = setting("cifar10", "the data set: a name, or a Dataset of your own")
    train_size: int | None = setting(None, "the first n training images; None: all", within=(1, 10**9))
    test_size: int | None = setting(None, "the first n test images; None: all", within=(1, 10**9))
    corruption: str = setting("true_labels", "what is done to the data", kind="corruption")

    corruption_level: float = setting(1.0, "probability that an example is corrupted", traced=True, within=(0, 1))
    seed: int = setting(0, "of all that is random", traced=True, within=SEED)
    corruption_seed: int | None = setting(None, "of the corruption; None: the seed", traced=True, within=SEED)

    def __new__(cls, *values: Any, **fields: Any) -> Self:
        for name in fields:
            if name not in hints(cls):
                raise unknown(f"field of {cls.__name__}", name, hints(cls))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            if (value := getattr(self, each.name)) is each.default:
                continue
            if each.name == "dataset" and not isinstance(value, str):
                if not hasattr(value, "checksum"):
                    way_out = 'rg.Dataset.from_arrays("name", train=(images, labels)) makes one of arrays'
                    raise UsageError(f"dataset must be a name or a rg.Dataset, not {type(value).__name__}; {way_out}")
                value = value.name  # a Dataset of the user's own is registered under its name
            value = coerce(each.name, value, hints(type(self))[each.name], each.metadata["kind"])
            object.__setattr__(self, each.name, value)
            low, high = each.metadata["range"]
            if isinstance(value, int | float) and not low <= value <= high:
                raise UsageError(f"{each.name} must be in [{low:g}, {high:g}], got {value:g}")

    def seed_of(self, what: str) -> int:
        """The seed of the corruption, the order or the first weights (`init`): its own, or that of the run."""
        own = getattr(self, f"{what}_seed", None)
        return self.seed if own is None else own

    @property
    def recipe(self) -> Self:
        """This run with its traced fields as ids leave them out: equal recipes share one compiled program."""
        plain = {f.name: f.metadata["left_out"] for f in dataclasses.fields(self) if f.metadata["traced"]}
        return replace(self, **plain)

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that run ids do not leave out: those that differ from the defaults."""
        values = ((each, getattr(self, each.name)) for each in dataclasses.fields(self))
        return {each.name: value for each, value in values if value != each.metadata["left_out"]}

    @property
    def shrunk(self) -> Self:
        """The run as the smoke scale has it: with the values of `smoke`, upper bounds where they are whole numbers."""
        bound = lambda name, value: value if not isinstance(value, int) else min(value, getattr(self, name) or value)
        small = SMALL_IMAGENET if self.dataset == "imagenet2012" else self.smoke
        return replace(self, **{name: bound(name, value) for name, value in small.items()})

    @property
    def subject(self) -> str:
        """What learns, in a word: a model's name; where there is none, the kind of run."""
        return self.kind

    @cached_property
    def id(self) -> str:
        """Readable, and unique by a digest of `changes`: a new field keeps old ids."""
        return self._name(self.changes)

    @cached_property
    def setting(self) -> str:
        """The id that this run has without its seeds: equal for runs that differ in seeds alone."""
        return self._name({name: value for name, value in self.changes.items() if name not in SEEDS})

    def _name(self, changes: dict[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(changes, sort_keys=True, allow_nan=False).encode()).hexdigest()[:8]
        shown = [f"{k}={v}" for k, v in changes.items() if k in ("corruption_level", "weight_decay")]
        shown += [f"seed={changes['seed']}"] if "seed" in changes else []
        names = [re.sub(r"\(.*\)", "", text) for text in (self.subject, self.corruption)]  # options are in the digest
        return "-".join([*names, *shown, digest])


@cache
def hints(kind: type[AnyRun]) -> dict[str, Any]:
    """Field → annotated type, of one kind of run."""
    found = typing.get_type_hints(kind)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}
