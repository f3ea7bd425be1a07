"""Components: what the names in a run refer to, built in or a user's own, under one grammar, `name(option=value, …)`.

    mlp(hidden=64)    sgd(nesterov=true)    step(at=60+120,factor=0.1)    pair_flip

A user adds a component with a decorator, in a notebook, a script, an experiment or a plug-in:

    @rg.register.corruption
    def flip_pairs(key, dataset, level, *, step=1): ...

Options are checked against the signature of what is registered. Each setting has one spelling: options at their default
are left out, the others are sorted by name. So equal settings have equal run ids. Importing this loads no jax: what is
built in is named by strings, with its description and its options, at the end of this module.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rethink_gen.errors import UsageError, unknown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")
CALL = re.compile(r"([^\s()]+)(?:\(([^()\n]*)\))?")
WORD = re.compile(r"[A-Za-z0-9_./~-]+")  # a text value: a word, or the path of a file
LONGEST = 200  # characters of a component's text

# What the suite itself passes to a component of each kind. All other parameters are options.
PASSED: dict[str, tuple[str, ...]] = {
    "model": ("num_classes", "dropout"),
    "corruption": ("key", "dataset", "level"),
    "augmentation": ("key", "images", "size"),
    "optimizer": ("learning_rate", "momentum", "weight_decay"),
    "schedule": ("step", "steps_per_epoch", "epochs", "learning_rate_decay"),
    "loss": ("logits", "targets"),
    "order": ("key", "epoch", "size", "batch_size"),
    "features": ("run", "images"),
    "kernel": ("inner", "a", "b", "gamma"),
    "dataset": (),
}


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


def is_component(text: str) -> bool:
    """Whether a text is of the form name or name(option=value,…)."""
    found = CALL.fullmatch(text) if len(text) <= LONGEST else None
    return bool(found and NAME.fullmatch(found[1]))


def parse(text: str) -> tuple[str, dict[str, str]]:
    """`step(at=60+120)` as its name and its options, which are still text.

    Raises:
      UsageError: it is not of this form.
    """
    found = CALL.fullmatch(text)
    if not is_component(text) or not found:
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
        raise unknown(kind, name, COMPONENTS[kind])
    return COMPONENTS[kind][name]


def known(kind: str) -> dict[str, str]:
    """The names of a kind, each with the line that describes it and its options with their defaults."""
    return {name: " ".join(filter(None, [each.about, _usage(each)])) for name, each in COMPONENTS[kind].items()}


def options_of(kind: str, text: str) -> dict[str, Any]:
    """All options of a component, those that the text leaves out at their defaults; only the given ones if unknown."""
    name, given = parse(text)
    component = COMPONENTS[kind].get(name)
    if component is None:
        return {option: _guess(value) for option, value in given.items()}
    for option in given:
        if option not in component.options or option in component.fixed:
            known_options = [each for each in component.options if each not in component.fixed]
            raise unknown(f"option of {kind} {name}", option, known_options)
    chosen = {**component.options, **component.fixed}
    chosen |= {option: _coerce(f"{name}({option})", value, chosen[option]) for option, value in given.items()}
    for option, value in chosen.items():
        if isinstance(value, type):
            raise UsageError(f"{kind} {name} needs {option}: write {name}({option}=…)")
    return chosen


def canonical(kind: str, text: str) -> str:
    """The one spelling of a component and its options.

    A name that is not registered keeps its options as they are, sorted: results of a component can be read where its
    code is not.
    """
    name, given = parse(text)
    if name not in COMPONENTS[kind]:
        return _spell(name, {option: _guess(value) for option, value in given.items()})
    component, chosen = COMPONENTS[kind][name], options_of(kind, text)
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
    """The names that a component takes: the suite passes only those that are there."""
    return set(inspect.signature(function).parameters)


def add(kind: str, name: str, target: Any) -> None:
    """Registers a user's component; one of the same name that is not built in is replaced.

    Raises:
      UsageError: the name is built in, or is no name.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a {kind}: use letters, digits, '_' and '.'")
    if (there := COMPONENTS[kind].get(name)) and there.built_in:
        raise UsageError(f"{kind} {name!r} is built in; register yours under another name")
    doc = (getattr(target, "__doc__", None) or "") if callable(target) else ""
    written = not doc.startswith(f"{getattr(target, '__name__', '')}(")  # dataclasses describe themselves so
    about = inspect.cleandoc(doc).partition("\n")[0] if written else ""
    options = _signature(kind, target) if callable(target) and kind != "dataset" else {}
    COMPONENTS[kind][name] = Component(kind, name, target, about, options)


def added() -> list[Component]:
    """The components that users have registered in this process."""
    return [each for of_kind in COMPONENTS.values() for each in of_kind.values() if not each.built_in]


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
            add(kind, name or target.__name__, target)
            return target

        return partial(register, name=target) if isinstance(target, str) else register(target)

    def corruption(self, target: Any) -> Any:
        """`(key, dataset, level, **options) -> Dataset`; see `rethink_gen.data.corruptions`."""
        return self._decorate("corruption", target)

    def model(self, target: Any) -> Any:
        """A flax module with the field num_classes, called with `(x) -> logits`; it may have dropout and train, too."""
        return self._decorate("model", target)

    def augmentation(self, target: Any) -> Any:
        """`(key, images[B, H, W, C], **options) -> images`, inside jit, values in 0..255."""
        return self._decorate("augmentation", target)

    def optimizer(self, target: Any) -> Any:
        """`(learning_rate, **options) -> optax.GradientTransformation`; see `rethink_gen.optimization.optimizers`."""
        return self._decorate("optimizer", target)

    def schedule(self, target: Any) -> Any:
        """`(step, steps_per_epoch, epochs, **options) -> factor` of the learning rate."""
        return self._decorate("schedule", target)

    def loss(self, target: Any) -> Any:
        """`(logits[B, K], targets[B, K], **options) -> float32[B]`."""
        return self._decorate("loss", target)

    def order(self, target: Any) -> Any:
        """`(key, epoch, size, batch_size, **options) -> int32[steps, batch_size]`."""
        return self._decorate("order", target)

    def dataset(self, target: Any) -> Any:
        """`() -> Dataset`, called when a run needs it."""
        return self._decorate("dataset", target)


register = Register()


def _signature(kind: str, target: Any) -> dict[str, Any]:
    """The options of a user's component: its parameters with a default, beyond those that the suite passes."""
    if dataclasses.is_dataclass(target):  # a flax module
        pairs = [(each.name, _default(each)) for each in dataclasses.fields(target) if each.init]
        pairs = [(name, default) for name, default in pairs if name not in ("parent", "name")]
    else:
        pairs = [(each.name, each.default) for each in inspect.signature(target).parameters.values()]
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


def _entries(kind: str, room: str, entries: Iterable[Component]) -> dict[str, Component]:
    table: dict[str, Component] = {}
    for each in entries:
        target = each.target
        if target in table:  # a preset of another entry
            base = table[target]
            each = dataclasses.replace(each, target=base.target, options=base.options, fixed=each.options)
        else:
            each = dataclasses.replace(each, target=f"rethink_gen.{room}{target}")
        table[each.name] = dataclasses.replace(each, kind=kind, built_in=True)
    return table


def _entry(name: str, target: str, about: str, files: tuple[str, ...] = (), **options: Any) -> Component:
    """An entry: "module:attribute" within its room and its options with their defaults; or, of a preset, the name of
    the entry that it is of, and the options that it sets.
    """
    return Component("", name, target, about, options, files=files)


COMPONENTS: dict[str, dict[str, Component]] = {
    "model": _entries(
        "model",
        "models.",
        [
            _entry("mlp", "mlp:MLP", "Hidden layers of ReLU units.", hidden=(512,), initialization="he"),
            _entry("mlp_1x512", "mlp", "One hidden layer of 512 units: 1,209,866 parameters.", hidden=(512,)),
            _entry("mlp_3x512", "mlp", "Three of them: 1,735,178 parameters.", hidden=(512, 512, 512)),
            _entry(
                "small_alexnet",
                "alexnet:SmallAlexNet",
                "Two (convolution, max-pool, response normalization) modules, then 384, 192 and K units.",
                initialization="he",
                last_layer="small",
            ),
            _entry(
                "small_alexnet_he", "small_alexnet", "The same, its last layer drawn like the others.", last_layer="he"
            ),
            _entry(
                "small_inception",
                "inception:SmallInception",
                "Figure 3: a convolution, eight Inception and two downsample modules, mean pooling.",
                batch_norm=True,
                initialization="he",
                last_layer="small",
            ),
            _entry(
                "small_inception_without_batch_norm",
                "small_inception",
                "The same, with a bias in place of batch normalization.",
                batch_norm=False,
            ),
            _entry(
                "softmax_regression", "mlp:SoftmaxRegression", "No hidden layer: one linear map.", initialization="he"
            ),
            _entry(
                "inception_v3",
                "inception_v3:InceptionV3",
                "Inception V3 as in TF-slim, for 299×299 pixels: 23,817,352 parameters and an auxiliary head.",
                auxiliary_weight=0.4,
                batch_norm_momentum=0.9997,
                batch_norm_epsilon=1e-3,
            ),
        ],
    ),
    "corruption": _entries(
        "corruption",
        "data.",
        [
            _entry("true_labels", "corruptions:true_labels", "The data set as it is."),
            _entry("random_labels", "corruptions:random_labels", "Labels drawn uniformly from all classes."),
            _entry("random_signs", "corruptions:random_signs", "Labels that are fair coin flips of two classes."),
            _entry(
                "shuffled_pixels",
                "corruptions:shuffled_pixels",
                "One permutation of the pixels for all images.",
                channels_together=True,
            ),
            _entry(
                "shuffled_pixels_channels_apart",
                "shuffled_pixels",
                "The same over all values of an image, channels apart.",
                channels_together=False,
            ),
            _entry(
                "random_pixels",
                "corruptions:random_pixels",
                "A permutation of the pixels of its own for each image.",
                channels_together=True,
            ),
            _entry(
                "random_pixels_channels_apart",
                "random_pixels",
                "The same over all values of an image, channels apart.",
                channels_together=False,
            ),
            _entry(
                "gaussian",
                "corruptions:gaussian_pixels",
                "Gaussian noise with the mean and variance of the images.",
                statistics=(0, 1, 2, 3),
            ),
            _entry("gaussian_per_channel", "gaussian", "The same, statistics per channel.", statistics=(0, 1, 2)),
            _entry("gaussian_per_pixel", "gaussian", "The same, statistics per pixel.", statistics=(0,)),
            _entry("gaussian_standard", "corruptions:gaussian_standard", "Standard normal noise, for whitening=false."),
            _entry("uniform_wrong", "label_noise:uniform_wrong", "Labels drawn uniformly from the other classes."),
            _entry("pair_flip", "label_noise:pair_flip", "Each class becomes the next."),
            _entry("asymmetric", "label_noise:asymmetric", "Similar classes exchanged.", map="cifar10"),
            _entry(
                "class_conditional",
                "label_noise:class_conditional",
                "Labels redrawn from the rows of a matrix in a file.",
                files=("matrix",),
                matrix=str,
            ),
            _entry(
                "extra_noisy_copies",
                "label_noise:extra_noisy_copies",
                "Copies of each image with random labels.",
                alpha=1,
            ),
            _entry("human", "label_noise:human", "Labels that people gave: CIFAR-10N.", set="worst"),
        ],
    ),
    "augmentation": _entries(
        "augmentation",
        "data.augmentations:",
        [
            _entry("random_crop", "random_crop", "A window of the crop size at a random place."),
            _entry("flip", "flip", "Left and right exchanged with probability one half."),
            _entry("rotation", "rotation", "Turned by a uniform angle of up to ±25 degrees."),
            _entry("crop", "crop", "A window of 10 to 100 % of the area, resized and flipped: for ImageNet."),
            _entry("color", "color", "Random brightness, saturation, hue and contrast of RGB images."),
        ],
    ),
    "features": _entries(
        "features",
        "solvers.features:",
        [
            _entry("pixels", "pixels", "All values of an image, divided by 255."),
            _entry("gabor_wavelets", "gabor_wavelets", "Moduli of Gabor wavelets of eight orientations, pooled."),
            _entry("random_convolutions", "random_convolutions", "Rectified responses to random patches, pooled."),
        ],
    ),
    "kernel": _entries(
        "kernel",
        "solvers.kernels:",
        [
            _entry("gaussian", "gaussian", "Gaussian: exp(-γ‖x - x'‖²)."),
            _entry("laplacian", "laplacian", "Laplacian: exp(-γ‖x - x'‖), with the Euclidean norm."),
            _entry("linear", "linear", "Linear: ⟨x, x'⟩, without γ."),
        ],
    ),
    "optimizer": _entries(
        "optimizer",
        "optimization.optimizers:",
        [
            _entry("sgd", "sgd", "SGD with momentum; weight decay as L2.", nesterov=False),
            _entry("adam", "adam", "Adam; weight decay as L2.", b1=0.9, b2=0.999, eps=1e-8),
            _entry("adamw", "adamw", "Adam with decoupled weight decay.", b1=0.9, b2=0.999, eps=1e-8),
            _entry("lars", "lars", "SGD with a rate per kernel; weight decay as L2.", trust=0.001, eps=0.0),
            _entry("lamb", "lamb", "Adam with a trust ratio per kernel; decoupled decay.", b1=0.9, b2=0.999, eps=1e-6),
            _entry("lion", "lion", "Steps by sign; decoupled weight decay.", b1=0.9, b2=0.99),
            _entry("rmsprop", "rmsprop", "RMSProp with momentum; weight decay as L2.", decay=0.9, eps=1e-8),
            _entry("lbfgs", "lbfgs", "L-BFGS with a line search, full batch; L2.", memory=10),
        ],
    ),
    "schedule": _entries(
        "schedule",
        "optimization.schedules:",
        [
            _entry(
                "exponential",
                "exponential",
                "A constant factor per epoch, learning_rate_decay: the paper's.",
                staircase=True,
                warmup_epochs=0.0,
            ),
            _entry("constant", "constant", "The same rate throughout.", warmup_epochs=0.0),
            _entry(
                "step", "step", "Multiplied by a factor at some epochs.", at=(60, 120), factor=0.1, warmup_epochs=0.0
            ),
            _entry("cosine", "cosine", "Half a cosine over the run.", final=0.0, warmup_epochs=0.0),
        ],
    ),
    "loss": _entries(
        "loss",
        "optimization.losses:",
        [
            _entry("cross_entropy", "cross_entropy", "Of softmax, in nats; with label_smoothing."),
            _entry("squared_error", "squared_error", "Summed over classes, on one-hot or smoothed targets."),
        ],
    ),
    "order": _entries(
        "order",
        "optimization.orders:",
        [
            _entry("reshuffle", "reshuffle", "A new permutation in each epoch."),
            _entry("shuffle_once", "shuffle_once", "One permutation for the whole run."),
            _entry("stored", "stored", "As the data are stored."),
            _entry("with_replacement", "with_replacement", "Independent uniform draws."),
            _entry("buffer", "buffer", "A shuffle buffer, as tf.data has it.", capacity=1000),
            _entry("echo", "echo", "Each batch or example used several times.", times=2, of="batch"),
        ],
    ),
    "dataset": {},
}
