"""What a result was made of beyond this package: digests of users' code and data, and of files that options name.

A digest of code covers the function or class, and what it uses of the user's own: other functions, classes and
constants, in its module or in other modules that are not installed packages. Comments and layout do not count. So an
edited corruption is another corruption, and a comment changes nothing.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import hashlib
import inspect
import os
import sys
import sysconfig
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

from rethink_gen import registry
from rethink_gen.errors import UsageError
from rethink_gen.registry import Component
from rethink_gen.runs import AnyRun, components

INSTALLED = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib"))
PACKAGE = str(Path(__file__).resolve().parent)
BROUGHT: dict[str, bytes] = {}  # files of the machine that sent the runs, by the path that options have for them


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
    return found | {option: _of_file(path) for option, path in _named_files(run)}


def files_of(run: AnyRun) -> dict[str, bytes]:
    """The content of the files that a run's options name, by the path that the run has for them."""
    return {path: content(path) for _, path in _named_files(run)}


def content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file that an option names, read here or brought from another machine (`BROUGHT`).

    Raises:
      OSError: it cannot be read.
    """
    brought = BROUGHT.get(str(path))
    return Path(path).expanduser().read_bytes() if brought is None else brought


def _named_files(run: AnyRun) -> Iterator[tuple[str, str]]:
    """`kind:name(option)` and the path, for each option of a run that names a file."""
    for kind, text in components(run):
        name = registry.parse(text)[0]
        component = registry.COMPONENTS[kind].get(name)
        for option in component.files if component else ():
            yield f"{kind}:{name}({option})", str(registry.options_of(kind, text)[option])


def of_program(run: AnyRun) -> str:
    """One digest for all of `of_run`, without the data; empty where all is built in."""
    parts = [
        f"{key}={value}" for key, value in sorted(of_run(run).items()) if not key.startswith(("dataset:", "corrup"))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""


@cache
def of_package() -> str:
    """The first digits of a digest of this package's code for training, which a checkpoint is tied to.

    Results are not: their provenance names the commit.
    """
    digest = hashlib.sha256()
    for folder in ("data", "models", "optimization", "training"):
        for path in sorted(Path(PACKAGE, folder).rglob("*.py")):
            digest.update(
                f"{path.relative_to(PACKAGE).as_posix()} {_text(path.read_text(encoding='utf-8'))}\n".encode()
            )
    return digest.hexdigest()[:12]


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
    return dataclasses.replace(component, digest=of_component(component))


def of_code(target: Any) -> str:
    """SHA-256, hex, of the source of a function or class, and of what it uses of the user's own.

    Names of modules do not count: the code is the same as a plug-in, in a script and in a notebook.
    """
    parts: dict[str, str] = {}
    _collect(target, parts, {})
    return hashlib.sha256("\n".join(f"{name}:{part}" for name, part in sorted(parts.items())).encode()).hexdigest()


def _collect(target: Any, parts: dict[str, str], seen: dict[int, Any]) -> None:
    """Adds what a function, a class, a partial or an object of a user's class consists of: name → text."""
    if id(target) in seen:
        return
    seen[id(target)] = target
    name = getattr(target, "__qualname__", type(target).__qualname__)
    while name in parts:  # one function made twice, with other values closed over
        name += "'"
    if _is_code(target):
        parts[name] = _source(target)
    else:
        parts[name] = type(target).__qualname__
        for attribute, value in _attributes(target):
            _add(f"{name} {attribute}", value, parts, seen)
        if is_users(type(target)):
            _collect(type(target), parts, seen)
    for base in target.__bases__ if isinstance(target, type) else ():
        if is_users(base):
            _collect(base, parts, seen)
    for attribute, value in _body(target):
        _add(f"{name} {attribute}", value, parts, seen)
    for function in _functions(target):
        for used, value in _used(function):
            _add(f"{name} {used}", value, parts, seen)


def _add(name: str, value: Any, parts: dict[str, str], seen: dict[int, Any]) -> None:
    """Adds a value that code uses: the code itself where it is the user's own, else the constant."""
    if isinstance(value, types.ModuleType):
        if is_users(value):
            parts[f"module {value.__name__}"] = _text(inspect.getsource(value))
    elif _is_code(value):
        if is_users(value):
            _collect(value, parts, seen)
        else:
            parts[name] = f"{value.__module__}.{getattr(value, '__qualname__', '')}"
    elif isinstance(value, partial) or (is_users(type(value)) and not isinstance(value, tuple)):
        _collect(value, parts, seen)
    else:
        parts[name] = _constant(value)
        for i, each in enumerate(_items(value)):
            if callable(each) or _items(each) or is_users(type(each)):
                _add(f"{name} {i}", each, parts, seen)


def _items(value: Any) -> list[Any]:
    """What a container holds."""
    if isinstance(value, types.SimpleNamespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return [*value] if isinstance(value, tuple | list) else []


def _is_code(value: Any) -> bool:
    """Whether something is a function, a class, or a function under a decorator such as jax.jit."""
    if isinstance(value, types.FunctionType | types.MethodType | type):
        return True
    return callable(value) and isinstance(inspect.unwrap(value), types.FunctionType)


def _attributes(target: Any) -> list[tuple[str, Any]]:
    """The values that a partial or an object holds; of a dataclass, those that it was made with."""
    if isinstance(target, partial):
        return [("function", target.func), ("arguments", target.args), *sorted(target.keywords.items())]
    if dataclasses.is_dataclass(target):
        return [(each.name, getattr(target, each.name, None)) for each in dataclasses.fields(target) if each.init]
    return sorted(getattr(target, "__dict__", {}).items())


def _functions(target: Any) -> list[types.FunctionType]:
    """The functions whose code a target consists of."""
    if isinstance(target, type):
        members = list(vars(target).values())
        plain = (getattr(member, "__func__", getattr(member, "fget", member)) for member in members)
        found = [inspect.unwrap(member) if callable(member) else member for member in plain]
        found += [field.default_factory for field in vars(target).get("__dataclass_fields__", {}).values()]
        return [member for member in found if isinstance(member, types.FunctionType) and is_users(member)]
    inner = [getattr(target, "__func__", target)]
    while (wrapped := getattr(inner[-1], "__wrapped__", None)) is not None and wrapped not in inner:
        inner.append(wrapped)
    return [each for each in inner if isinstance(each, types.FunctionType)]


def _body(target: Any) -> Iterable[tuple[str, Any]]:
    """The values that a class assigns in its body; without those that flax and dataclasses add later."""
    tree = _tree(target) if isinstance(target, type) else None
    for statement in tree.body[0].body if tree and isinstance(tree.body[0], ast.ClassDef) else ():
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            assigned = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for each in (node for part in assigned for node in ast.walk(part)):
                if isinstance(each, ast.Name) and each.id in vars(target):
                    yield each.id, vars(target)[each.id]


def _used(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    """The defaults of a function, and the globals and closed-over values that it refers to."""
    yield "defaults", function.__defaults__
    yield "keyword defaults", function.__kwdefaults__
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
    module = (
        target if isinstance(target, types.ModuleType) else sys.modules.get(getattr(target, "__module__", "") or "")
    )
    file = getattr(module, "__file__", None)
    if module is not None and module.__name__ == "builtins":
        return False
    if module is None or file is None:  # a notebook, or an interpreter
        return module is None or module.__name__ == "__main__"
    path = Path(file).resolve()
    if str(path).startswith((*INSTALLED, PACKAGE)):
        return False
    folders = path.parents[module.__name__.count(".") + (path.stem == "__init__") :]
    return not (folders and _holds_packages(folders[0]))


def is_users_file(file: str) -> bool:
    """Whether a file of code is neither of this package, nor of the standard library, nor of an installed package."""
    return not str(Path(file).resolve()).startswith((*INSTALLED, PACKAGE))


@cache
def _holds_packages(folder: Path) -> bool:
    """Whether packages are installed in a folder: those of another environment, or of `pip install --target`."""
    return any(folder.glob("*.dist-info"))


def _tree(target: Any) -> ast.Module | None:
    """The source, parsed; None where there is none."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(target)))
    except (OSError, TypeError, SyntaxError):
        return None


@lru_cache(maxsize=1000)
def _source(target: Any) -> str:
    """The source without comments and layout; where there is none, as of a notebook's classes, the bytecode."""
    if tree := _tree(target):
        return _dump(tree)
    parts = []
    for function in _functions(target):
        defaults = _constant((function.__defaults__, function.__kwdefaults__))
        parts.append(f"{function.__qualname__}{defaults}{_bytecode(function.__code__)}")
    if isinstance(target, type):
        values = [(name, value) for name, value in vars(target).items() if not name.startswith("__")]
        parts += [f"{name}={_constant(value)}" for name, value in values if not callable(value)]
        parts.append(f"annotations={_annotations(target)}")
    return "\n".join(sorted(parts))


def _annotations(target: type) -> dict[str, Any]:
    return {
        name: getattr(t, "__qualname__", type(t).__qualname__) for name, t in inspect.get_annotations(target).items()
    }


def _bytecode(code: types.CodeType) -> str:
    """What a code object does, without names of files and numbers of lines."""
    constants = [_bytecode(each) if isinstance(each, types.CodeType) else _constant(each) for each in code.co_consts]
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return repr((code.co_code, code.co_exceptiontable, code.co_flags, code.co_names, parameters, constants))


def _text(source: str) -> str:
    return _dump(ast.parse(source))


def _dump(tree: ast.Module) -> str:
    """The tree as Python 3.11 writes it: later versions leave out empty lists, and know parameters of types."""
    all_lists: dict[str, Any] = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return ast.dump(tree, **all_lists).replace(", type_params=[]", "")


def _constant(value: Any) -> str:
    """A constant as text; of arrays, their content."""
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, set | frozenset):  # its order is another one in each process
        return f"{type(value).__name__}({', '.join(sorted(map(_constant, value)))})"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(_constant, value))})"
    if isinstance(value, types.SimpleNamespace):
        return _constant(vars(value))
    if isinstance(value, Mapping):
        return f"dict({', '.join(f'{_constant(key)}: {_constant(each)}' for key, each in value.items())})"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    return type(value).__qualname__  # an object: its address says nothing


def _of_file(path: str) -> str:
    try:
        return hashlib.sha256(content(path)).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
