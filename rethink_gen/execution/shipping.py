"""What users have registered in this process, for other processes: worker processes and tasks on Ray.

Functions and classes travel by value, so a notebook's components are known everywhere. Arrays travel as files of the
cache. Only what this process itself has packed is unpacked.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

from rethink_gen import digests, registry


def pack() -> str:
    """All components that users have registered, as text; empty if there are none."""
    added = registry.added()
    if not added:
        return ""
    import cloudpickle

    items = [(each.kind, each.name, _without_arrays(each)) for each in added]
    modules = {sys.modules.get(getattr(each.target, "__module__", "")) for each in added} - {None}
    by_value = [module for module in modules if module is not sys.modules["__main__"] and digests.is_users(module)]
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        return base64.b64encode(cloudpickle.dumps(items)).decode()
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def unpack(text: str) -> None:
    """Registers what `pack` has packed."""
    if not text:
        return
    import cloudpickle

    for kind, name, target in cloudpickle.loads(base64.b64decode(text)):
        if isinstance(target, _Arrays):
            target.load(name)
        else:
            registry.COMPONENTS[kind][name] = target


class _Arrays:
    """A data set of arrays, by the file that holds them."""

    def __init__(self, dataset: Any) -> None:
        from rethink_gen.data import datasets

        self.path, self.num_classes = str(datasets.save_arrays(dataset)), dataset.num_classes

    def load(self, name: str) -> None:
        from rethink_gen.data import datasets

        datasets.load_arrays(name, self.path, self.num_classes)


def _without_arrays(component: registry.Component) -> Any:
    """The component, with its digest in place of the source that other processes do not have."""
    if component.kind == "dataset" and hasattr(component.target, "checksum"):
        return _Arrays(component.target)
    return digests.frozen(component)
