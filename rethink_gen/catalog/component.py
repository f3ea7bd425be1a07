"""What an entry of the catalog is, and how the entries of a kind become a table."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Component:
    """One entry of the registry.

    target: the object, or "module:attribute" where it is built in.
    options: option → its default; a type in place of a default means that the option must be given.
    fixed: options that a preset sets: `mlp_1x512` is `mlp(hidden=512)`.
    files: options that name files, whose content counts.
    digest: of a user's code, where it came from another process; empty: computed when it is needed.
    """

    kind: str
    name: str
    target: Any
    about: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    built_in: bool = False
    digest: str = ""

    def load(self) -> Any:
        """The object itself."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


def entries(kind: str, room: str, each_entry: Iterable[Component]) -> dict[str, Component]:
    """Name → entry, of one kind, whose objects are in one room."""
    table: dict[str, Component] = {}
    for each in each_entry:
        target = each.target
        if target in table:  # a preset of another entry
            base = table[target]
            each = dataclasses.replace(each, target=base.target, options=base.options, fixed=each.options)
        else:
            each = dataclasses.replace(each, target=f"rethink_gen.{room}{target}")
        table[each.name] = dataclasses.replace(each, kind=kind, built_in=True)
    return table


def entry(name: str, target: str, about: str, files: tuple[str, ...] = (), **options: Any) -> Component:
    """An entry: "module:attribute" within its room and its options with their defaults; or, of a preset, the name of
    the entry that it is of, and the options that it sets.
    """
    return Component("", name, target, about, options, files=files)
