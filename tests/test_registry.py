"""Components: one grammar, one spelling, options checked against what is registered."""

import re
import subprocess
import sys
from functools import partial

import flax.linen as nn
import optax
import pytest
from flax import nnx

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.errors import UsageError

BUILT_IN = [(kind, name) for kind, entries in registry.COMPONENTS.items() for name in entries]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_entries_declare_the_options_that_their_objects_have(kind, name):
    entry = registry.COMPONENTS[kind][name]
    there = registry._signature(kind, entry.load())
    declared = {option: default for option, default in entry.options.items() if not isinstance(default, type)}
    assert {option: there[option] for option in declared} == declared
    assert entry.about
    assert entry.about[0].isupper()
    assert entry.about[-1] == "."


@pytest.mark.parametrize(
    ("kind", "text", "spelled"),
    [
        ("model", "mlp(hidden=64)", "mlp(hidden=64)"),
        ("model", "mlp(initialization=glorot, hidden=64+32)", "mlp(hidden=64+32,initialization=glorot)"),
        ("model", "mlp(hidden=512)", "mlp_1x512"),
        ("model", "mlp(hidden=512+512+512)", "mlp_3x512"),
        ("model", "mlp", "mlp_1x512"),
        (
            "model",
            "small_inception(batch_norm=false,last_layer=he)",
            "small_inception_without_batch_norm(last_layer=he)",
        ),
        ("model", "small_alexnet(last_layer=he)", "small_alexnet_he"),
        ("optimizer", "sgd(nesterov=false)", "sgd"),
        ("optimizer", "adam(b1=0.90)", "adam"),
        ("optimizer", "adam(eps=1e-7,b1=0.8)", "adam(b1=0.8,eps=1e-07)"),
        ("schedule", "step(at=60+120)", "step"),
        ("schedule", "step(at=3,warmup_epochs=2)", "step(at=3,warmup_epochs=2)"),
        ("corruption", "gaussian(statistics=0+1+2)", "gaussian_per_channel"),
        ("corruption", "unknown_here(b=1,a=x)", "unknown_here(a=x,b=1)"),
    ],
)
def test_equal_settings_have_one_spelling(kind, text, spelled):
    assert registry.canonical(kind, text) == spelled
    assert registry.canonical(kind, spelled) == spelled


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("model", "mlp(hiden=64)", "no option of model mlp named 'hiden'; did you mean 'hidden'"),
        ("model", "mlp(hidden=wide)", r"mlp\(hidden\) must be numbers joined by \+, got 'wide'"),
        ("optimizer", "sgd(nesterov=maybe)", "must be true or false"),
        ("model", "mlp(hidden=64,hidden=32)", "is given twice"),
        ("model", "mlp_1x512(hidden=64)", "no option of model mlp_1x512 named 'hidden'"),
        ("optimizer", "adamw(weight_decay=0.1)", "weight_decay is a field of the run itself, beside optimizer"),
        ("corruption", "class_conditional", r"needs matrix: write class_conditional\(matrix=…\)"),
        ("model", "mlp(64)", "is not option=value"),
        ("order", "buffer(capacity=1.5)", "must be a whole number"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(kind, text, said):
    with pytest.raises(UsageError, match=said) as error:
        registry.options_of(kind, text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("features", "fourier(count=0)"),
        ("features", "fourier(count=-3)"),
        ("features", "fourier(count=20,sigma=0)"),
        ("schedule", "inverse_sqrt(period=0)"),
        ("schedule", "inverse_sqrt(period=-1)"),
        ("model", "densenet(growth=0)"),
    ],
)
def test_numbers_without_a_meaning_are_refused(kind, text):
    """Features ended in a traceback, and a period of -1 epochs was one step."""
    with pytest.raises(UsageError, match="must be in"):
        registry.check_options(kind, text)


def test_schedule_grows_by_less_than_one_if_it_is_asked_to():
    """Growth of densenet is a number of channels; that of inverse_sqrt is not, and 0.5 was refused."""
    registry.check_options("schedule", "inverse_sqrt(growth=0.5)")


def test_users_components_have_their_parameters_as_options():
    @rg.register.corruption
    def moved(key, dataset, level, *, step=1):
        """Labels moved by some classes."""

    @rg.register.order("backwards")
    def reversed_order(key, epoch, size, batch_size):
        return None

    assert registry.known("corruption")["moved"] == "Labels moved by some classes. [step=1]"
    assert registry.canonical("corruption", "moved(step=1)") == "moved"
    assert registry.resolve("corruption", "moved(step=3)").keywords == {"step": 3}
    assert registry.resolve("order", "backwards") is reversed_order
    with pytest.raises(UsageError, match="no option of corruption moved named 'steps'; did you mean 'step'"):
        rg.Run(corruption="moved(steps=2)")


def test_decorator_may_be_called_without_a_name():
    @rg.register.schedule()
    def halves(step, steps_per_epoch, epochs):
        return 0.5

    assert registry.resolve("schedule", "halves") is halves


def test_component_that_takes_any_options_needs_none():
    """`**options` was taken for an option that has no default, so that no run could name the component."""
    rg.register.optimizer("greedy")(lambda learning_rate, *more, **options: None)
    assert rg.Run(optimizer="greedy").optimizer == "greedy"
    assert registry.parameters(registry.resolve("optimizer", "greedy")) >= {"momentum", "weight_decay"}


@pytest.mark.parametrize(
    ("kind", "target", "said"),
    [
        ("optimizer", optax.sgd(0.1), "give a function or class that makes the optimizer, not a GradientTransf"),
        ("model", nn.Dense(10), "give a function or class that makes the model, not a Dense that is made"),
        ("model", nnx.Linear, "Linear is a module of flax.nnx; put it into a module of flax.linen, see flax.nnx in"),
        ("dataset", ([[0.0]], [0]), "give a function or class that makes the dataset, not a tuple that is made"),
        ("schedule", lambda step: 1, 'this schedule has no name of its own; give it one: rg.register.schedule("name")'),
        ("optimizer", partial(optax.adam, b1=0.8), "this optimizer has no name of its own"),
    ],
)
def test_what_is_no_component_is_refused_when_it_is_registered(kind, target, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        getattr(rg.register, kind)(target)
    if callable(target) and "has no name" in said:
        assert getattr(rg.register, kind)("named")(target) is target


def test_what_is_built_in_is_not_replaced():
    with pytest.raises(UsageError, match="model 'mlp_1x512' is built in; register yours under another name"):
        rg.register.model("mlp_1x512")(object)


def test_presets_and_options_name_one_run():
    assert rg.Run(model="mlp(hidden=512)") == rg.Run(model="mlp_1x512")
    assert rg.Run(model="mlp(hidden=512)").id == rg.Run().id
    assert rg.Run(model="mlp(hidden=64)").id.startswith("mlp-true_labels-"), "a name that is fit for a file"


def test_lists_load_no_jax():
    code = "import sys; from rethink_gen.cli.main import main; main(['list', 'models']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mlp" in done.stdout
    assert "hidden=512" in done.stdout
