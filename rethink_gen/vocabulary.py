"""The names a run may use, known without importing the modules that hold them: those load jax, which takes seconds."""

import ast
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from rethink_gen.errors import DataError, unknown
from rethink_gen.experiment import AnyRun

# Kind → the module and the table in it that say which names a run may use.
TABLES = {
    "model": ("models", "MODELS"),
    "corruption": ("corruptions", "CORRUPTIONS"),
    "augmentation": ("transforms", "AUGMENTATIONS"),
    "features": ("features", "FEATURES"),
    "kernel": ("kernels", "KERNELS"),
}


def vocabulary(kind: str) -> dict[str, str]:
    """The names a run may use for its model, corruption, augmentations, …, each with the line that describes it.

    Read from the source of the table; names added to it at run time count too.
    """
    module, table = TABLES[kind]
    added = getattr(sys.modules.get(f"rethink_gen.{module}"), table, {})
    return {**dict.fromkeys(added, ""), **described(module, table)}


@cache
def described(module: str, table: str) -> dict[str, str]:
    """Name → first line of the docstring of what it stands for, by the dict literal in a module's source."""
    body = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")).body
    lines = {
        node.name: (ast.get_docstring(node) or "").partition("\n")[0]
        for node in body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    [entries] = [node.value for node in body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table]
    assert isinstance(entries, ast.Dict)
    names_in = lambda value: [node.id for node in ast.walk(value) if isinstance(node, ast.Name) and node.id in lines]
    return {
        ast.literal_eval(key): lines[names_in(value)[0]]
        for key, value in zip(entries.keys, entries.values, strict=True)
        if key is not None
    }


def check_names(runs: Iterable[AnyRun]) -> None:
    """Refuses a name that no table knows."""
    runs = list(runs)
    for kind in TABLES:
        names = {getattr(run, kind) for run in runs if hasattr(run, kind)}
        if kind == "augmentation":
            names = {name for run in runs for name in getattr(run, "augmentations", ())}
        for name in sorted(names - vocabulary(kind).keys() if names else ()):
            raise unknown(kind, name, vocabulary(kind))
    with suppress(DataError):  # not here, but there is such a data set
        check_data(runs)


def check_data(runs: Iterable[AnyRun]) -> None:
    """Refuses a data set that is not there; it is not read yet."""
    from rethink_gen import datasets

    for name in sorted({run.dataset for run in runs} - {*datasets.BUNDLED, datasets.generated.NAME}):
        datasets.find(name)
