"""What users have registered in this process, for other processes: worker processes and tasks on Ray.

Functions and classes travel by value, with what they use of the user's other modules, so a notebook's components are
known everywhere. Arrays travel as files of the cache, and files that options name as their bytes. Only what this
process itself has packed is unpacked.
"""

from __future__ import annotations

import base64
import io
import sys
from collections import ChainMap
from collections.abc import Iterable
from dataclasses import replace
from types import CodeType
from typing import Any, ClassVar

from rethink_gen import digests, registry
from rethink_gen.runs import AnyRun


def pack(elsewhere: Iterable[AnyRun] = ()) -> str:
    """All components that users have registered, as text; empty if there is nothing to bring.

    Args:
      elsewhere: runs for another machine: the files that their options name come along.
    """
    added = registry.added()
    files = {path: content for run in elsewhere for path, content in digests.files_of(run).items()}
    if not added and not files:
        return ""
    import cloudpickle

    items = [(each.kind, each.name, _without_arrays(each)) for each in added]
    # A plug-in's neighbors, too: other processes do not find them.
    modules = {name: module for name, module in list(sys.modules.items()) if module is not None}
    by_value = [
        module
        for name, module in modules.items()
        if name != "__main__" and getattr(module, "__name__", "") == name and digests.is_users(module)
    ]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    content = io.BytesIO()
    try:
        _pickler(content).dump((items, files))
        return base64.b64encode(content.getvalue()).decode()
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _pickler(content: io.BytesIO) -> Any:
    """Cloudpickle's, but code keeps the name of its file for errors to tell: cloudpickle 3.1.3 takes it away."""
    import cloudpickle

    reduce = cloudpickle.Pickler.dispatch_table[CodeType]

    def with_file(code: CodeType) -> tuple[Any, ...]:
        make, arguments, *rest = reduce(code)
        return make, tuple(code.co_filename if each == "<dynamic-code>" else each for each in arguments), *rest

    class Pickler(cloudpickle.Pickler):
        dispatch_table: ClassVar = ChainMap({CodeType: with_file}, cloudpickle.Pickler.dispatch_table)

    return Pickler(content)


def unpack(text: str) -> None:
    """Registers what `pack` has packed."""
    if not text:
        return
    import cloudpickle

    items, files = cloudpickle.loads(base64.b64decode(text))
    for kind, name, component in items:
        registry.COMPONENTS[kind][name] = component
    digests.BROUGHT.update(files)


class _Arrays:
    """A data set of arrays, read from the file that holds them when a run needs it."""

    def __init__(self, dataset: Any) -> None:
        from rethink_gen.data import datasets

        datasets.save_arrays(dataset)
        self.name, self.checksum, self.num_classes = dataset.name, dataset.checksum, dataset.num_classes

    def __call__(self) -> Any:
        from rethink_gen.data import datasets

        return datasets.load_arrays(self.name, self.checksum, self.num_classes)


def _without_arrays(component: registry.Component) -> registry.Component:
    """The component, with its digest in place of the source that other processes do not have."""
    frozen = digests.frozen(component)
    if component.kind == "dataset" and hasattr(component.target, "checksum"):
        return replace(frozen, target=_Arrays(component.target))
    return frozen
