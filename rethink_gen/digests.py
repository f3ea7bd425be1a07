"""What a result was made of beyond this package: digests of users' code and data, and of files that options name.

A digest of code covers the function or class, and what it uses of the user's own: other functions, classes and
constants, in its module or in other modules that are not installed packages. Comments and layout do not count. So an
edited corruption is another corruption, and a comment changes nothing.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import sys
import sysconfig
import textwrap
import types
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rethink_gen import registry
from rethink_gen.errors import UsageError
from rethink_gen.registry import Component
from rethink_gen.runs import AnyRun, components

INSTALLED = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib"))
PACKAGE = str(Path(__file__).resolve().parent)


def of_run(run: AnyRun) -> dict[str, str]:
    """What a run uses that is not built in, `kind:name` → SHA-256, hex; empty for built-in runs."""
    found = {}
    for kind, text in [*components(run), ("dataset", run.dataset)]:
        name = registry.parse(text)[0]
        component = registry.COMPONENTS[kind].get(name)
        if component is None:
            continue
        if not component.built_in:
            found[f"{kind}:{name}"] = of_component(component)
        for option in component.files:
            found[f"{kind}:{name}({option})"] = _of_file(str(registry.options_of(kind, text)[option]))
    return found


def of_program(run: AnyRun) -> str:
    """One digest for all of `of_run`, without the data; empty where all is built in."""
    parts = [
        f"{key}={value}" for key, value in sorted(of_run(run).items()) if not key.startswith(("dataset:", "corrup"))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""


def of_component(component: Component) -> str:
    """The digest of a user's component: of its code, or of a data set its checksum."""
    target = component.target
    if component.digest:
        return component.digest
    if component.kind == "dataset":
        return target.checksum if hasattr(target, "checksum") else of_code(target)
    return of_code(target)


def frozen(component: Component) -> Component:
    """The component with its digest, for processes that have no source."""
    return replace(component, digest=of_component(component))


def of_code(target: Any) -> str:
    """SHA-256, hex, of the source of a function or class, and of what it uses of the user's own."""
    parts: dict[str, str] = {}
    _collect(target, parts)
    return hashlib.sha256("\n".join(f"{name}:{part}" for name, part in sorted(parts.items())).encode()).hexdigest()


def _collect(target: Any, parts: dict[str, str]) -> None:
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', repr(target))}"
    if name in parts:
        return
    parts[name] = _source(target)
    if isinstance(target, type):
        for base in target.__bases__:
            if is_users(base):
                _collect(base, parts)
    for function in _functions(target):
        for used, value in _used(function):
            if isinstance(value, types.FunctionType | type):
                if is_users(value):
                    _collect(value, parts)
            elif isinstance(value, types.ModuleType):
                if is_users(value):
                    parts[f"module {value.__name__}"] = _text(inspect.getsource(value))
            else:
                parts[f"{name} {used}"] = _constant(value)


def _functions(target: Any) -> list[types.FunctionType]:
    """The functions whose code a target consists of."""
    if isinstance(target, types.FunctionType):
        inner = [target]
        while (wrapped := getattr(inner[-1], "__wrapped__", None)) is not None and wrapped not in inner:
            inner.append(wrapped)
        return inner
    members = vars(target).values() if isinstance(target, type) else (type(target).__call__,)
    plain = (getattr(member, "__func__", getattr(member, "fget", member)) for member in members)
    found = (getattr(member, "__wrapped__", member) for member in plain)
    return [member for member in found if isinstance(member, types.FunctionType) and is_users(member)]


def _used(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    """The globals and closed-over values that a function refers to."""
    for name in sorted(set(_names(function.__code__))):
        if name in function.__globals__ and not hasattr(builtins, name):
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _names(code: types.CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def is_users(target: Any) -> bool:
    """Whether something is neither of this package, nor of the standard library, nor of an installed package."""
    module = target if isinstance(target, types.ModuleType) else sys.modules.get(getattr(target, "__module__", ""))
    file = getattr(module, "__file__", None)
    if module is not None and module.__name__ == "builtins":
        return False
    if file is None:  # a notebook, or an interpreter
        return module is None or module.__name__ == "__main__"
    return is_users_file(file)


def is_users_file(file: str) -> bool:
    """Whether a file of code is neither of this package, nor of the standard library, nor of an installed package."""
    return not str(Path(file).resolve()).startswith((*INSTALLED, PACKAGE))


@lru_cache(maxsize=1000)
def _source(target: Any) -> str:
    """The source without comments and layout; where there is none, the bytecode."""
    try:
        return _text(textwrap.dedent(inspect.getsource(target)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        codes = [function.__code__ for function in _functions(target)]
        return repr(
            [(code.co_code, code.co_names, [c for c in code.co_consts if not hasattr(c, "co_code")]) for code in codes]
        )


def _text(source: str) -> str:
    return ast.dump(ast.parse(source))


def _constant(value: Any) -> str:
    """A constant as text; of arrays, their content."""
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, tuple | list | set | frozenset):
        return f"{type(value).__name__}({', '.join(map(_constant, value))})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{_constant(key)}: {_constant(each)}' for key, each in value.items())})"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    return type(value).__qualname__  # an object: its address says nothing


def _of_file(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
