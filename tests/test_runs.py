"""A run has one spelling, one id and legal values, whatever its kind; a grid has an order."""

import copy
import dataclasses
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rethink_gen.errors import UsageError
from rethink_gen.runs import KINDS, Run, grid, hints


def run_of(**fields: Any) -> Run:
    return Run(**fields)


def kind_with(field: str) -> Any:
    return next(kind for kind in KINDS.values() if field in hints(kind))


DEFAULTS: dict[str, Any] = dataclasses.asdict(Run())


RANGES = {
    each.name: each.metadata["range"]
    for kind in KINDS.values()
    for each in dataclasses.fields(kind)
    if math.isfinite(each.metadata["range"][1])
}


# A result file is named by its run's id, and every result is refused whose id does not follow from its run.
GOLDEN_IDS = {
    "mlp_1x512-true_labels-44136fa3": Run(learning_rate=0.1),
    "mlp_1x512-true_labels-seed=4-e60d9eac": Run(seed=4, learning_rate=0.1),
    "mlp_1x512-true_labels-65552853": Run(),  # of the learning rate of the paper
    "mlp_3x512-true_labels-85449b04": Run(model="mlp_3x512", learning_rate=0.01),
    "mlp_1x512-random_labels-f42e538b": Run(corruption="random_labels", learning_rate=0.1),
    "mlp_1x512-random_labels-corruption_level=0.2-seed=2147483647-99893e1e": Run(
        corruption="random_labels", corruption_level=0.2, seed=2**31 - 1, learning_rate=0.1
    ),
    "mlp_1x512-gaussian-corruption_level=0.0-8b8b19e5": Run(
        corruption="gaussian", corruption_level=0.0, whitening=False, learning_rate=0.1
    ),
    "small_alexnet-true_labels-weight_decay=0.0005-b8508c81": Run(
        model="small_alexnet", weight_decay=5e-4, epochs=60, learning_rate=0.1
    ),
    "small_inception-true_labels-027f9b21": Run(
        model="small_inception", augmentations=("random_crop",), train_size=5000, test_size=1000
    ),
    "small_inception_without_batch_norm-true_labels-3216db85": Run(
        model="small_inception_without_batch_norm",
        augmentations=("flip", "rotation"),
        learning_rate_decay=0.999,
        learning_rate=0.1,
    ),
    "mlp_1x512-true_labels-123370c1": Run(
        dataset="digits",
        crop_size=7,
        batch_size=32,
        stop_at_train_accuracy=0.99,
        dropout=0.5,
        momentum=0.0,
        learning_rate=0.1,
    ),
}


MESSAGE = "ids have changed; update them only in a commit that also trains again, or renames, every result there is"


# Every legal value of every field.
whole = lambda name: st.integers(*map(int, RANGES[name]))


number = lambda name: st.floats(*RANGES[name])


word = st.sampled_from(["digits", "emnist.letters", "random_labels", "mlp_1x512", "flip", "seed", "none", "0", "1e3"])


VALUES = {
    "dataset": word,
    "train_size": st.none() | whole("train_size"),
    "test_size": st.none() | whole("test_size"),
    "crop_size": whole("crop_size"),
    "whitening": st.booleans(),
    "augmentations": st.lists(word, max_size=3, unique=True).map(tuple),
    "corruption": word,
    "model": word,
    "dropout": number("dropout"),
    "batch_size": whole("batch_size"),
    "epochs": whole("epochs"),
    "stop_at_train_accuracy": st.none() | number("stop_at_train_accuracy"),
    "corruption_level": number("corruption_level"),
    "learning_rate": number("learning_rate"),
    "learning_rate_decay": number("learning_rate_decay"),
    "momentum": number("momentum"),
    "weight_decay": number("weight_decay"),
    "seed": whole("seed"),
    "label_smoothing": number("label_smoothing"),
    "precision": word,
    "optimizer": st.sampled_from(["sgd", "adamw", "sgd(nesterov=true)", "mine"]),
    "schedule": st.sampled_from(["exponential", "step(at=60+120)", "cosine"]),
    "loss": word,
    "order": st.sampled_from(["reshuffle", "buffer(capacity=7)", "echo(of=example,times=3)"]),
    "max_gradient_norm": st.none() | number("max_gradient_norm"),
    "validation_size": st.none() | whole("validation_size"),
    "measurements": st.none() | whole("measurements"),
    "record": st.sampled_from([(), ("examples",)]),
    "measures": st.lists(word, max_size=3, unique=True).map(tuple),
    "train_skip": whole("train_skip"),
    "pretrain_epochs": whole("pretrain_epochs"),
    "pretrain_size": st.none() | whole("pretrain_size"),
    "pretrain_corruption": word,
    "pretrain_layers": st.none() | whole("pretrain_layers"),
    "pretrain_rescale": st.booleans(),
    "init_seed": st.none() | whole("init_seed"),
    "order_seed": st.none() | whole("order_seed"),
    "corruption_seed": st.none() | whole("corruption_seed"),
}


some_fields = st.fixed_dictionaries({}, optional=VALUES)


def on_the_command_line(value):
    return ",".join(value) if isinstance(value, tuple) else str(value)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(some_fields, st.randoms(use_true_random=False))
def test_the_order_and_spelling_of_fields_do_not_matter(fields, random):
    run = Run(**fields)
    every = list((dataclasses.asdict(run) | fields).items())
    random.shuffle(every)
    spelled = {name: on_the_command_line(value) for name, value in every}
    from_json = json.loads(json.dumps(dataclasses.asdict(run)))
    for same in (run_of(**dict(every)), run_of(**spelled), run_of(**from_json)):
        assert same == run
        assert same.id == run.id


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(some_fields, st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), VALUES[name])))
def test_equal_runs_and_no_others_share_an_id(fields, change):
    run, other = Run(**fields), Run(**(fields | dict([change])))
    assert (run == other) == (run.id == other.id)
    assert hash(run) == hash(other) or run != other


def test_every_field_has_its_part_in_the_id():
    assert VALUES.keys() == DEFAULTS.keys()
    other: dict[str, Any] = {
        "dataset": "digits", "train_size": 512, "test_size": 100, "crop_size": 7, "whitening": False,
        "augmentations": ("flip",), "corruption": "random_labels", "model": "small_alexnet", "dropout": 0.5,
        "batch_size": 64, "epochs": 99, "stop_at_train_accuracy": 0.99, "corruption_level": 0.5, "learning_rate": 0.05,
        "learning_rate_decay": 0.99, "momentum": 0.0, "weight_decay": 5e-4, "seed": 1, "label_smoothing": 0.1,
        "precision": "bfloat16", "optimizer": "adamw", "schedule": "cosine", "loss": "squared_error", "order": "stored",
        "max_gradient_norm": 1.0, "measurements": 9, "validation_size": 100,
        "init_seed": 1, "order_seed": 1, "corruption_seed": 1, "record": ("examples",), "measures": ("margin",),
        "train_skip": 5, "pretrain_epochs": 3, "pretrain_size": 9, "pretrain_corruption": "true_labels",
        "pretrain_layers": 2, "pretrain_rescale": True,
    }  # fmt: skip
    ids = {Run().id, *(run_of(**{name: other[name]}).id for name in DEFAULTS)}
    assert len(ids) == 1 + len(DEFAULTS)


@pytest.mark.parametrize("golden", GOLDEN_IDS)
def test_ids_stay(golden):
    assert GOLDEN_IDS[golden].id == golden, MESSAGE


def test_an_id_is_readable_and_fit_for_a_file_name():
    run = Run(model="small_inception", corruption="random_labels", corruption_level=0.5, weight_decay=5e-4, seed=3)
    readable, _, digest = run.id.rpartition("-")
    assert readable == "small_inception-random_labels-corruption_level=0.5-weight_decay=0.0005-seed=3"
    assert int(digest, 16) < 2**32


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("corruption_level", 0, 0.0),
        ("corruption_level", "1e-1", 0.1),
        ("learning_rate", "0.10", 0.1),
        ("epochs", 3.0, 3),
        ("epochs", "3", 3),
        ("train_size", "None", None),
        ("train_size", None, None),
        ("train_size", "512", 512),
        ("whitening", "false", False),
        ("augmentations", "flip,rotation", ("flip", "rotation")),
        ("augmentations", ["flip"], ("flip",)),
        ("augmentations", "", ()),
    ],
)
def test_a_value_becomes_its_annotated_type(field, value, expected):
    got = getattr(run_of(**{field: value}), field)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_misspelled_field_is_answered_with_the_nearest(kind):
    with pytest.raises(UsageError, match=rf"no field of {kind.__name__} named 'datset'; did you mean 'dataset'"):
        kind(datset="digits")
    with pytest.raises(UsageError, match="did you mean 'corruption'"):
        dataclasses.replace(kind(), coruption="random_labels")
    assert copy.deepcopy(kind(seed=3)) == pickle.loads(pickle.dumps(kind(seed=3))) == kind(seed=3)


def test_minus_zero_is_zero():
    run = Run(corruption_level=-0.0)
    assert math.copysign(1, run.corruption_level) == 1
    assert run.id == Run(corruption_level=0).id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in RANGES for value in (math.nan, math.inf, -math.inf, "nan", -1, True, "many", [])),
        *((name, math.nextafter(high, math.inf)) for name, (_, high) in RANGES.items()),
        ("epochs", 0), ("epochs", 2.5), ("epochs", None), ("batch_size", 0), ("train_size", 0), ("crop_size", 0),
        ("epochs", 10**400), ("seed", "9" * 5000), ("dropout", 1.0), ("corruption_level", 1.1),
        ("learning_rate", "None"),
        ("whitening", 1), ("whitening", "yes"), ("whitening", None),
        ("model", ""), ("model", "a b"), ("model", 3), ("model", None), ("dataset", "../cifar10"),
        ("dataset", "cifar10\n"), ("corruption", "x" * 65),
        ("augmentations", 5), ("augmentations", None), ("augmentations", ("flip", 3)),
        ("augmentations", "../flip"), ("augmentations", ("flip,rotation",)),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_field(field, value):
    with pytest.raises(UsageError, match=f"^{field} must be ") as error:
        kind_with(field)(**{field: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*DEFAULTS, "id", "recipe", "changes"])
def test_an_augmentation_may_be_called_like_anything_else(name):
    assert Run(augmentations=(name,)).augmentations == (name,)


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_belong_to_it(name):
    for end in RANGES[name]:
        assert getattr(kind_with(name)(**{name: end}), name) == end


@pytest.mark.parametrize("kind", KINDS.values())
def test_runs_of_every_kind_have_an_id_of_their_own_and_become_small(kind):
    run = kind(seed=2)
    assert run.id != kind().id
    assert run.id not in {other(seed=2).id for other in KINDS.values() if other is not kind}
    assert (run.shrunk.dataset, run.shrunk.seed) == (run.dataset if kind.draws_data else "digits", 2)
    assert run.shrunk.shrunk == run.shrunk
    assert kind(train_size=10).shrunk.train_size == 10
    with pytest.raises(UsageError, match="no field named 'kind'"):
        grid(run, kind=("training",))


def test_a_run_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Run().seed = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_runs_that_differ_in_traced_numbers_share_a_recipe():
    numbers: dict[str, Any] = {
        "corruption_level": 0.3, "learning_rate": 0.01, "learning_rate_decay": 0.9, "momentum": 0.5,
        "weight_decay": 1e-4, "seed": 7,
    }  # fmt: skip
    assert run_of(epochs=3, **numbers).recipe == Run(epochs=3).recipe == Run(epochs=3, learning_rate=0.1)
    assert Run(epochs=3).recipe != Run(epochs=4).recipe


def test_a_grid_is_every_combination_the_last_axis_fastest():
    runs = grid(Run(epochs=5), corruption_level=(0, 0.5), seed=range(3))
    assert [(run.corruption_level, run.seed) for run in runs] == [(0, 0), (0, 1), (0, 2), (0.5, 0), (0.5, 1), (0.5, 2)]
    assert {run.epochs for run in runs} == {5}
    assert grid(Run()) == (Run(),)
    assert grid(Run(), model="mlp_3x512", seed=(0, 1)) == grid(Run(), model=("mlp_3x512",), seed=(0, 1)), "no letters"


def test_an_axis_that_is_no_field_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"no field named 'epcohs'; did you mean 'epochs'"):
        grid(Run(), epcohs=(1, 2))


def test_an_augmentation_is_named_once():
    with pytest.raises(UsageError, match="augmentations must each be named once, got flip,flip"):
        Run(augmentations=("flip", "flip"))
