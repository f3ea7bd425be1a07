"""Components: what the names in a run refer to, built in or a user's own, under one grammar, `name(option=value, …)`.

    mlp(hidden=64)    sgd(nesterov=true)    step(at=60+120,factor=0.1)    pair_flip

A user adds a component with a decorator, in a notebook, a script, an experiment or a plug-in:

    @rg.register.corruption
    def flip_pairs(key, dataset, level, *, step=1): ...

Options are checked against the signature of what is registered. Each setting has one spelling: options at their default
are left out, the others are sorted by name. So equal settings have equal run ids. What is built in stands in `catalog`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rethink_gen import catalog
from rethink_gen.catalog import Component
from rethink_gen.errors import UsageError, unknown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # configurations of tfds have hyphens, too
CALL = re.compile(r"([^\s()]+)(?:\(([^()\n]*)\))?")
WORD = re.compile(r"[A-Za-z0-9_./~-]+")  # a text value: a word, or the path of a file
LONGEST = 200  # characters of a component's text

COMPONENTS: dict[str, dict[str, Component]] = {kind: dict(entries) for kind, entries in catalog.BUILT_IN.items()}

# What the suite itself passes to a component of each kind. All other parameters are options.
PASSED: dict[str, tuple[str, ...]] = {
    "model": ("num_classes", "dropout"),
    "corruption": ("key", "dataset", "level"),
    "augmentation": ("key", "images", "size", "targets"),
    "optimizer": ("learning_rate", "momentum", "weight_decay"),
    "schedule": ("step", "steps_per_epoch", "epochs", "learning_rate_decay"),
    "loss": ("logits", "targets", "memory"),
    "order": ("key", "epoch", "size", "batch_size"),
    "measure": ("network",),
    "features": ("run", "images"),
    "kernel": ("inner", "a", "b", "gamma"),
    "search": ("draw",),
    "learner": ("seed",),
    "dataset": (),
}


def is_component(text: str) -> bool:
    """Whether a text is of the form name or name(option=value,…)."""
    found = CALL.fullmatch(text) if len(text) <= LONGEST else None
    return bool(found and NAME.fullmatch(found[1]))


def dataset_name(text: str) -> str:
    """The one spelling of a data set's name: tfds writes emnist/letters for what is emnist.letters here."""
    return text.replace("/", ".") if re.fullmatch(r"[\w.-]*\w/\w[\w.-]*", text) else text


def parse(text: str) -> tuple[str, dict[str, str]]:
    """`step(at=60+120)` as its name and its options, which are still text.

    Raises:
      UsageError: it is not of this form.
    """
    found = CALL.fullmatch(text) if len(text) <= LONGEST else None
    if not found or not NAME.fullmatch(found[1]):
        raise UsageError(f"{text[:LONGEST]!r} is not a component; write name or name(option=value,…)")
    options: dict[str, str] = {}
    for part in filter(None, map(str.strip, (found[2] or "").split(","))):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not NAME.fullmatch(option) or option in options or not re.fullmatch(r"[^\s()=]+", value):
            raise UsageError(f"{text!r}: {part!r} is not option=value, or is given twice")
        options[option] = value
    return found[1], options


def split(text: str) -> list[str]:
    """`flip,cutout(size=8)` as its components: commas inside of parentheses belong to options."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def find(kind: str, name: str) -> Component:
    """The component of that name.

    Raises:
      UsageError: there is none; the line names the nearest.
    """
    if name not in COMPONENTS[kind]:
        # An experiment may bring data of its own; other components come with a plug-in.
        hint = "; one of your own needs --plugin FILE" * all(each.kind == "dataset" for each in added())
        raise UsageError(f"{unknown(kind, name, COMPONENTS[kind])}{hint}")
    return COMPONENTS[kind][name]


def known(kind: str) -> dict[str, str]:
    """The names of a kind, each with the line that describes it and its options with their defaults."""
    return {name: " ".join(filter(None, [each.about, _usage(each)])) for name, each in COMPONENTS[kind].items()}


def completions(kind: str, begun: str) -> list[str]:
    """What a text that was begun can become: the names of a kind, or inside of parentheses the options of one."""
    name, parenthesis, inside = begun.partition("(")
    component = COMPONENTS[kind].get(name)
    if not parenthesis or component is None:
        return list(COMPONENTS[kind])
    given = begun[: begun.rindex("," if "," in inside else "(") + 1]
    return [f"{given}{option}=" for option in component.options if f"{option}=" not in given]


def options_of(kind: str, text: str) -> dict[str, Any]:
    """All options of a component, those that the text leaves out at their defaults; only the given ones if unknown."""
    return _options(kind, *parse(text))


def _options(kind: str, name: str, given: Mapping[str, str]) -> dict[str, Any]:
    component = COMPONENTS[kind].get(name)
    if component is None:
        return {option: _guess(value) for option, value in given.items()}
    for option in given:
        if option not in component.options or option in component.fixed:
            known_options = [each for each in component.options if each not in component.fixed]
            error = unknown(f"option of {kind} {name}", option, known_options)
            hint = f"; {option} is a field of the run itself, beside {kind}" if option in PASSED[kind] else ""
            raise UsageError(f"{error}{hint}")
    chosen = {**component.options, **component.fixed}
    chosen |= {option: _coerce(f"{name}({option})", value, chosen[option]) for option, value in given.items()}
    for option, value in chosen.items():
        if isinstance(value, type):
            raise UsageError(f"{kind} {name} needs {option}: write {name}({option}=…)")
    return chosen


def check_options(kind: str, text: str) -> None:
    """Refuses options that a component does not have, and values that a built-in one cannot have.

    Raises:
      UsageError: names the option and its range.
    """
    name, _ = parse(text)
    for option, value in options_of(kind, text).items():
        low, high = catalog.OPTION_RANGES.get(option, (-math.inf, math.inf))
        values = value if isinstance(value, tuple) else (value,)
        numbers = [each for each in values if isinstance(each, int | float)]
        if is_built_in(kind, text) and not all(low <= each <= high for each in numbers):
            raise UsageError(f"{kind} {name}: {option} must be in [{low:g}, {high:g}], got {_value(value)}")


def canonical(kind: str, text: str) -> str:
    """The one spelling of a component and its options.

    A name that is not registered keeps its options as they are, sorted: results of a component can be read where its
    code is not.
    """
    name, given = parse(text)
    if name not in COMPONENTS[kind]:
        return _spell(name, {option: _guess(value) for option, value in given.items()})
    component, chosen = COMPONENTS[kind][name], _options(kind, name, given)
    if not chosen:
        return name
    same = [each for each in COMPONENTS[kind].values() if each.target == component.target]
    fits = [each for each in same if all(chosen[option] == value for option, value in each.fixed.items())]
    best = component if component not in same else max(fits, key=lambda each: len(each.fixed))
    changed = {o: v for o, v in chosen.items() if o not in best.fixed and v != best.options.get(o)}
    return _spell(best.name, changed)


def resolve(kind: str, text: str) -> Callable[..., Any]:
    """What a component's text refers to, with its options bound."""
    options = options_of(kind, text)
    component = find(kind, parse(text)[0])
    loaded = component.load()
    return partial(loaded, **options) if options else loaded


def is_built_in(kind: str, text: str) -> bool:
    """Whether a component comes with the package; one that is not registered does not."""
    component = COMPONENTS[kind].get(parse(text)[0])
    return component is not None and component.built_in


def parameters(function: Callable[..., Any]) -> set[str]:
    """The names that a component takes: the suite passes only those that are there. With `**options`, all of them."""
    found = inspect.signature(function).parameters.values()
    everything = {name for names in PASSED.values() for name in names}
    return {each.name for each in found} | (
        everything if any(each.kind is each.VAR_KEYWORD for each in found) else set()
    )


def asks_for(function: Callable[..., Any], name: str) -> bool:
    """Whether a component has a parameter of this name; `**options` alone is no such wish."""
    return name in inspect.signature(function).parameters


def add(kind: str, name: str, target: Any) -> None:
    """Registers a user's component; one of the same name that is not built in is replaced.

    Raises:
      UsageError: the name is built in, or is no name; or what it names cannot be called.
    """
    _check_target(kind, target)
    if name in ("", "<lambda>"):  # of a partial, or of a function without a name
        raise UsageError(f'this {kind} has no name of its own; give it one: rg.register.{kind}("name")')
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a {kind}: use letters, digits, '_' and '.'")
    if (there := COMPONENTS[kind].get(name)) and there.built_in:
        raise UsageError(f"{kind} {name!r} is built in; register yours under another name")
    doc = (getattr(target, "__doc__", None) or "") if callable(target) else ""
    written = not doc.startswith(f"{getattr(target, '__name__', '')}(")  # dataclasses describe themselves so
    about = inspect.cleandoc(doc).partition("\n")[0] if written else ""
    options = _signature(kind, target) if callable(target) and kind != "dataset" else {}
    COMPONENTS[kind][name] = Component(kind, name, target, about, options)


def _check_target(kind: str, target: Any) -> None:
    """Refuses what cannot be a component of its kind."""
    made = dataclasses.is_dataclass(target) and not isinstance(target, type)  # such as a flax module: it is callable
    if (made or not callable(target)) and not (kind == "dataset" and hasattr(target, "checksum")):
        raise UsageError(f"give a function or class that makes the {kind}, not a {type(target).__name__} that is made")
    if any(each.__module__.startswith("flax.nnx.") for each in getattr(target, "__mro__", ())):
        way_out = "put it into a module of flax.linen, see flax.nnx in docs/adding.md"
        raise UsageError(f"{getattr(target, '__name__', kind)} is a module of flax.nnx; {way_out}")


def added() -> list[Component]:
    """The components that users have registered in this process."""
    return [each for of_kind in COMPONENTS.values() for each in of_kind.values() if not each.built_in]


def origin(component: Component) -> str:
    """What tells two components of a user's own of one name apart: the file of the code, or the checksum of arrays."""
    try:
        return getattr(component.target, "checksum", "") or inspect.getfile(component.target)
    except TypeError:  # a partial has no file
        return ""


class Register:
    """Decorators that register a user's component, each with or without a name: by default that of the function.

    The first line of the docstring is the description. Parameters with a default, beyond those that the suite passes,
    are options.

        @rg.register.corruption
        def flip_pairs(key, dataset, level, *, step=1): ...

        @rg.register.model("tiny")
        class Tiny(nn.Module): ...
    """

    def _decorate(self, kind: str, target: Any) -> Any:
        def register(target: Any, name: str = "") -> Any:
            add(kind, name or getattr(target, "__name__", ""), target)
            return target

        return partial(register, name=target) if isinstance(target, str) else register(target)

    def corruption(self, target: Any = "") -> Any:
        """`(key, dataset, level, **options) -> Dataset`; see `rethink_gen.data.corruptions`."""
        return self._decorate("corruption", target)

    def model(self, target: Any = "") -> Any:
        """A flax module with the field num_classes, called with `(x) -> logits`; it may have dropout and train, too."""
        return self._decorate("model", target)

    def augmentation(self, target: Any = "") -> Any:
        """`(key, images[B, H, W, C], **options) -> images`, inside jit, values in 0..255; one that takes targets[B, K]
        mixes preprocessed images and returns both, see `rethink_gen.data.augmentations`.
        """
        return self._decorate("augmentation", target)

    def optimizer(self, target: Any = "") -> Any:
        """`(learning_rate, **options) -> optax.GradientTransformation`; see `rethink_gen.optimization.optimizers`."""
        return self._decorate("optimizer", target)

    def schedule(self, target: Any = "") -> Any:
        """`(step, steps_per_epoch, epochs, **options) -> factor` of the learning rate."""
        return self._decorate("schedule", target)

    def loss(self, target: Any = "") -> Any:
        """`(logits[B, K], targets[B, K], **options) -> float32[B]`; one that takes memory[B, K] returns that, too."""
        return self._decorate("loss", target)

    def order(self, target: Any = "") -> Any:
        """`(key, epoch, size, batch_size, **options) -> int32[steps, batch_size]`."""
        return self._decorate("order", target)

    def measure(self, target: Any = "") -> Any:
        """`(network, **options) -> number`, once a run has ended; see `rethink_gen.measures.network`."""
        return self._decorate("measure", target)

    def learner(self, target: Any = "") -> Any:
        """`(seed, **options)` -> a classifier with fit and predict; see `rethink_gen.solvers.learner`."""
        return self._decorate("learner", target)

    def search(self, target: Any = "") -> Any:
        """`(draw, **options) -> (init, ask, tell)` of weights without gradients; see `rethink_gen.solvers.searches`."""
        return self._decorate("search", target)

    def dataset(self, target: Any = "") -> Any:
        """`() -> Dataset`, called when a run needs it."""
        return self._decorate("dataset", target)


register = Register()


def _signature(kind: str, target: Any) -> dict[str, Any]:
    """The options of a user's component: its parameters with a default, beyond those that the suite passes."""
    if dataclasses.is_dataclass(target):  # a flax module
        pairs = [(each.name, _default(each)) for each in dataclasses.fields(target) if each.init]
        pairs = [(name, default) for name, default in pairs if name not in ("parent", "name")]
    else:
        found = inspect.signature(target).parameters.values()
        named = [each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        pairs = [(each.name, each.default) for each in named]
    options = {name: default for name, default in pairs if name not in PASSED[kind]}
    empty = (inspect.Parameter.empty, dataclasses.MISSING)
    return {name: str if default in empty else default for name, default in options.items() if _spellable(default)}


def _default(each: dataclasses.Field[Any]) -> Any:
    return each.default_factory() if each.default_factory is not dataclasses.MISSING else each.default


def _spellable(value: Any) -> bool:
    """Whether a value can be written in the grammar; what cannot is no option."""
    values = value if isinstance(value, tuple) else (value,)
    missing = (inspect.Parameter.empty, dataclasses.MISSING)
    return all(each is None or each in missing or isinstance(each, bool | int | float | str) for each in values)


def _coerce(what: str, text: str, default: Any) -> Any:
    """A value of the type that the default has.

    Raises:
      UsageError: it cannot be.
    """
    kind = default if isinstance(default, type) else type(default)
    try:
        if kind is bool and text in ("true", "false", "True", "False"):
            return text in ("true", "True")
        if kind is int and float(text) == int(float(text)):
            return int(float(text))
        if kind is float and math.isfinite(float(text)):
            return float(text) + 0.0
        if kind is tuple:
            like = default[0] if isinstance(default, tuple) and default else 0
            return tuple(_coerce(what, part, like) for part in text.split("+"))
        if kind is str and WORD.fullmatch(text):
            return text
        if kind is type(None):
            return _guess(text)
    except (ValueError, OverflowError):
        pass
    words = {bool: "true or false", int: "a whole number", float: "a number", tuple: "numbers joined by +"}
    raise UsageError(f"{what} must be {words.get(kind, 'a word or a path')}, got {text!r}")


def _guess(text: str) -> Any:
    """A value whose type nothing tells: a number if it reads as one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _spell(name: str, options: Mapping[str, Any]) -> str:
    """The text of a component."""
    inside = ",".join(f"{option}={_value(value)}" for option, value in sorted(options.items()))
    return f"{name}({inside})" if inside else name


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_value, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _usage(component: Component) -> str:
    """The options of a component with their defaults, for a list."""
    shown = {name: value for name, value in component.options.items() if name not in component.fixed}
    inside = ", ".join(f"{name}={'…' if isinstance(v, type) else _value(v)}" for name, v in shown.items())
    return f"[{inside}]" if inside else ""
