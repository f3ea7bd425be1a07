"""Plug-ins: modules that register components of a user's own.

`--plugin my_code.py` or `--plugin my_package.my_module` on the command line, `rg.load_plugin(...)` in Python, or an
installed package that declares the entry point `rethink_gen.plugins`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from functools import cache
from pathlib import Path

from rethink_gen.errors import RethinkError, UsageError

GROUP = "rethink_gen.plugins"


def load(plugin: str) -> None:
    """Imports a plug-in: a Python file, or a module by its name; a file once in a process unless it has changed.

    Raises:
      UsageError: it is not there, or fails; the line names the file and the line in it.
    """
    path = Path(plugin).expanduser()
    if path.suffix == ".py":
        _load_file(path.resolve())
        return
    try:
        importlib.import_module(plugin)
    except RethinkError:
        raise
    except (Exception, SystemExit) as error:
        way_out = "; it is a folder, so name a .py file in it" if path.is_dir() else ""
        raise UsageError(f"plug-in {plugin}: {describe(error, plugin)}{way_out}") from error


@cache
def load_installed() -> None:
    """Imports the plug-ins that installed packages declare."""
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            raise UsageError(f"plug-in {entry.name} of {entry.value}: {describe(error, entry.value)}") from error


def describe(error: BaseException, file: str) -> str:
    """An error in a user's file, with the line where it came from."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    where = f"line {line}: " if line else ""
    return f"{where}{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"plug-in {path}: no such file")
    name = f"rethink_gen_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    content = path.read_bytes()
    if getattr(sys.modules.get(name), "__content__", None) == content:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__content__"] = content
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # a plug-in may import its neighbors
    importlib.invalidate_caches()  # also those that were written a moment ago
    try:
        spec.loader.exec_module(module)
    except RethinkError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"plug-in {path}: {describe(error, str(path))}") from error
    finally:
        sys.path.remove(str(path.parent))
