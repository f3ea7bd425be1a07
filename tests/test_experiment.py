"""What is studied: runs have one spelling and one id, grids an order, and experiments are found by file name."""

import copy
import dataclasses
import importlib
import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from frames import result
from hypothesis import given, settings
from hypothesis import strategies as st

from rethink_gen import experiment
from rethink_gen.errors import UsageError
from rethink_gen.experiment import Check, Experiment, for_each, needs
from rethink_gen.runs import KINDS, Run, grid, hints
from rethink_gen.study.studies import Study


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


def test_an_axis_that_is_no_field_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"no field named 'epcohs'; did you mean 'epochs'"):
        grid(Run(), epcohs=(1, 2))


RUN, SHORT = Run(), Run(epochs=2)


def study(runs=(RUN,), laptop=(SHORT,), **others):
    return Experiment(claim="Labels matter.", locator="Nowhere", runs=runs, laptop=laptop, **others)


def test_each_scale_has_its_runs_and_none_twice():
    assert study(runs=(Run(), Run(seed=1), Run())).at("paper").runs == (Run(), Run(seed=1))
    assert study().at("laptop").runs == (Run(epochs=2),)
    assert study().at("laptop").scale == "laptop"
    with pytest.raises(UsageError, match=r"no scale named 'papr'; did you mean 'paper'"):
        study().at("papr")  # pyright: ignore[reportArgumentType]


def test_smoke_is_the_first_seed_on_256_digits_for_four_epochs():
    runs = grid(Run(epochs=100, model="small_alexnet", weight_decay=5e-4), corruption_level=(0, 1), seed=(3, 4))
    small = Run(
        dataset="digits", train_size=256, test_size=128, crop_size=7, batch_size=32, epochs=4,
        model="small_alexnet", weight_decay=5e-4, seed=3,
    )  # fmt: skip
    assert study(runs=runs).at("smoke").runs == grid(small, corruption_level=(0, 1))


def test_smoke_keeps_what_is_small_already():
    digits = grid(Run(dataset="digits", epochs=60), seed=(0, 1))
    assert study(runs=digits).at("smoke").runs == digits[:1]
    assert study(runs=(Run(epochs=2),)).at("smoke").runs[0].epochs == 2


def test_smoke_is_derived_from_the_runs_that_are_named_for_it():
    """Networks at the paper's size may take minutes to compile, even for digits."""
    narrow = Run(model="mlp(hidden=4)", dataset="digits")
    assert study(smoke=(narrow,)).at("smoke").runs == (narrow,)
    assert study(smoke=(narrow,)).at("paper").runs == (RUN,)


SOURCE = '''"""A notebook.

What was found.
"""
from rethink_gen import Check, Experiment, Run

EXPERIMENT = Experiment(claim="Labels matter.", locator="Nowhere", runs=(Run(seed=5),), laptop=())
'''


@pytest.fixture
def folder(tmp_path):
    for name in ("fig1", "fig1a_curves", "fig1b_slowdown", "table1", "_shared"):
        (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / "notes.txt").write_text("not an experiment")
    return tmp_path


def test_the_experiments_of_a_folder_are_its_files(folder):
    assert experiment.names(folder) == ["fig1", "fig1a_curves", "fig1b_slowdown", "table1"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no folder of experiments at .*absent.*--experiments DIR"):
        experiment.names(tmp_path / "absent")


def test_experiments_come_with_the_code():
    assert "quickstart" in experiment.names()


@pytest.mark.parametrize(
    ("asked", "name"), [("table1", "table1"), ("tab", "table1"), ("fig1a", "fig1a_curves"), ("fig1", "fig1")]
)
def test_a_unique_beginning_or_the_whole_name_is_enough(folder, asked, name):
    found = experiment.find(asked, folder)
    assert (found.name, found.doc, found.runs) == (name, "A notebook.\n\nWhat was found.", (Run(seed=5),))


def test_a_beginning_of_several_names_is_answered_with_them(folder):
    (folder / "fig1.py").unlink()
    with pytest.raises(UsageError, match="'fig1' could be fig1a_curves, fig1b_slowdown; give more letters"):
        experiment.find("fig1", folder)


@pytest.mark.parametrize("asked", ["tabel1", "", "../table1", "_shared", "notes", "table1.py", "TABLE1"])
def test_a_name_that_is_not_known_is_answered_with_those_that_are(folder, asked):
    with pytest.raises(UsageError, match=r"no experiment named .*known: fig1, fig1a_curves, fig1b_slowdown, table1"):
        experiment.find(asked, folder)
    with pytest.raises(UsageError, match="did you mean 'table1'"):
        experiment.find("tabel1", folder)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("EXPERIMENT = (", "SyntaxError"),
        ("import nothing_of_that_name\nEXPERIMENT = 1", "line 1: ModuleNotFoundError"),
        ("\nEXPERIMENT = 1 / 0", "line 2: ZeroDivisionError"),
        ("from nothing_of_that_name import EXPERIMENT", "line 1: ModuleNotFoundError"),
        ("", "does not define EXPERIMENT"),
        ("EXPERIMENT = 3", "it is of type int"),
        ("from rethink_gen import Run\nEXPERIMENT = Run()", "it is of type Run"),
        ("from rethink_gen import Run\nEXPERIMENT = Run(epochs=0)", "line 2: .*epochs must be in"),
        ("from rethink_gen import needs\n@needs(modle='a')\ndef f(study): ...\nEXPERIMENT = 1", "did you mean 'model'"),
        ("EXPERIMENT = 1\n\0", "null bytes"),
        ("import sys\nsys.exit(0)\nEXPERIMENT = 1", "line 2: SystemExit: 0"),  # or nothing is done, and that is success
    ],
)
def test_an_experiment_file_that_is_broken_is_named(folder, source, reason):
    (folder / "broken.py").write_text(source)
    with pytest.raises(UsageError, match=reason) as error:
        experiment.find("broken", folder)
    assert str(folder / "broken.py") in str(error.value)


def test_an_augmentation_is_named_once():
    with pytest.raises(UsageError, match="augmentations must each be named once, got flip,flip"):
        Run(augmentations=("flip", "flip"))


def own(folder, name, text=SOURCE):
    path = folder / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_an_experiment_in_a_subfolder_belongs_to_the_paper_of_that_name(folder):
    own(folder, "arpit2017/fig1_noise")
    own(folder, "_drafts/idea")
    own(folder, ".hidden/idea")
    own(folder, "arpit2017/declared", SOURCE.replace("laptop=()", 'laptop=(), paper="zhang2017"'))
    assert set(experiment.names(folder)) >= {"fig1_noise", "fig1", "declared"}
    assert "idea" not in experiment.names(folder)
    assert [experiment.find(name, folder).paper for name in ("fig1_noise", "fig1", "declared")] == [
        "arpit2017",
        "",
        "zhang2017",
    ]


def test_two_files_of_one_name_are_both_named(folder):
    first, second = own(folder, "a/same"), own(folder, "b/same")
    for ask in (lambda: experiment.names(folder), lambda: experiment.find("table1", folder)):
        with pytest.raises(UsageError, match="the name same") as error:
            ask()
        assert str(first) in str(error.value)
        assert str(second) in str(error.value)


def test_a_helper_is_imported_by_its_neighbors_and_not_listed(folder):
    """Two folders may have a helper of the same name: neither sees that of the other."""
    for paper in ("a", "b"):
        own(folder, f"{paper}/common", f"CLAIM = 'From {paper}.'")
        own(folder, f"{paper}/of_{paper}", "from common import CLAIM\n" + SOURCE.replace('"Labels matter."', "CLAIM"))
    assert "common" not in experiment.names(folder)
    assert [experiment.find(f"of_{paper}", folder).claim for paper in "aba"] == ["From a.", "From b.", "From a."]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("common")


def test_a_relative_folder_is_the_one_in_the_working_folder(tmp_path, monkeypatch):
    """A helper was looked for where a folder of the same relative name had been before."""
    for place in ("one", "two"):
        (tmp_path / place / "mine").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        Path("mine", f"helper_{place}.py").write_text(f'CLAIM = "Of {place}."\n')
        text = SOURCE.replace('"Labels matter."', "CLAIM")
        Path("mine", "own.py").write_text(f"from helper_{place} import CLAIM\n{text}")
        assert experiment.find("own", Path("mine")).claim == f"Of {place}."
        assert f"helper_{place}" not in sys.modules


def test_a_broken_file_does_not_hide_the_others(folder):
    broken = own(folder, "paper/broken", "EXPERIMENT = 1 / 0")
    every = list(experiment.find_each(folder))
    errors = [each for each in every if isinstance(each, UsageError)]
    assert [each.name for each in every if isinstance(each, Experiment)] == [
        "fig1",
        "fig1a_curves",
        "fig1b_slowdown",
        "table1",
    ]
    [error] = errors
    assert str(error) == f"{broken}: line 1: ZeroDivisionError: division by zero"


def runs_are_there(study):
    """All runs are there,
    of {model}.

    This paragraph is for readers of the code.
    """
    return len(study.runs) == len(study.experiment.runs), f"{len(study.runs)} runs"


def study_with(checks, *runs, done=None, scale="paper", laptop=()):
    """A study of these runs at a scale, with results for those that are done."""
    about = study(runs, laptop, checks=checks, scale=scale)
    return Study(about, tuple(map(result, runs if done is None else done)), Path("nowhere"))


MODELS = (Run(model="mlp_1x512"), Run(model="mlp_3x512"))
TWO = (*MODELS, *(dataclasses.replace(run, seed=1) for run in MODELS))


def test_the_sentence_of_a_check_is_its_docstring():
    small = needs(model="mlp_1x512")(for_each("model", ["mlp_1x512"], runs_are_there)[0])
    assert study_with([small], *MODELS).checks() == [Check("All runs are there, of MLP 1×512.", True, "1 runs")]


def test_a_check_without_a_docstring_is_called_by_its_name():
    def two_runs_are_there(study):
        return True, ""

    [check] = study_with([two_runs_are_there], *MODELS).checks()
    assert check.statement == "Two runs are there."


def test_a_check_sees_the_runs_that_it_needs_under_every_seed():
    checks = [*for_each("model", ("mlp_1x512", "mlp_3x512"), runs_are_there), needs(seed=1)(seen)]
    assert [check.evidence for check in study_with(checks, *TWO).checks()] == ["2 runs", "2 runs", "2 settings"]
    extra = study_with(checks[:1], *MODELS, done=[*TWO])
    assert [check.evidence for check in extra.checks()] == ["2 runs"]


def seen(study):
    """Seen."""
    return None, f"{study.runs['model'].nunique()} settings"


def test_a_check_is_not_known_until_each_setting_has_a_result():
    checks = [runs_are_there, *for_each("model", ("mlp_1x512", "mlp_3x512"), runs_are_there)]
    found = study_with(checks, *MODELS, done=[dataclasses.replace(MODELS[0], seed=7)]).checks()
    assert [(check.holds, check.evidence) for check in found] == [
        (None, "1 of 2 settings have results"),
        (True, "1 runs"),
        (None, "no results yet"),
    ]
    [absent] = study_with([needs(model="small_alexnet")(seen)], *MODELS).checks()
    assert (absent.holds, absent.evidence) == (None, "needs runs that the paper scale does not have")


def test_a_check_that_fails_does_not_end_the_table():
    def broken(study):
        """Broken."""
        return study.runs["no such column"].max() > 0, ""

    found = study_with([broken, runs_are_there], *MODELS)
    assert [check.holds for check in found.checks()] == [None, True]
    assert found.checks()[0].evidence == "the check failed: KeyError: 'no such column'"
    assert "**not known** · Broken." in found.text()


def test_at_smoke_scale_no_check_has_a_verdict():
    found = study_with([runs_are_there], *MODELS, scale="smoke")
    assert found.checks() == [Check("All runs are there, of {model}.", None, "smoke scale: no verdict")]
    for kind in ("markdown", "html", "json", "latex"):
        assert "smoke scale: no verdict" in found.text(kind)
        assert "holds" not in found.text(kind).replace('"holds": null', "")
    same = study_with([runs_are_there], *MODELS, scale="smoke", laptop=MODELS)
    assert [check.holds for check in same.checks()] == [True], "runs that are as large at the laptop scale"


@pytest.mark.parametrize("wanted", [{"modle": "mlp"}, {"epochs": "many"}])
def test_a_need_that_no_run_can_have_is_refused_when_the_file_is_loaded(wanted):
    with pytest.raises(UsageError):
        needs(**wanted)


def test_checks_are_a_list_of_functions():
    with pytest.raises(UsageError, match="checks must be a list of functions"):
        study(checks=runs_are_there)


def test_an_experiment_that_declares_no_table_has_a_row_for_each_setting():
    table = study_with([], *MODELS).table()
    assert set(table["model"]) == {"mlp_1x512", "mlp_3x512"}


def test_a_check_of_a_number_that_has_no_value_is_not_known_and_prints_no_nan():
    def of_nothing(study):
        """The best run is good."""
        best = study.runs["train_accuracy"].where(study.runs["seed"] < 0).max()
        return best > 0.9, f"at most {best:+.1f} points"

    [check] = study_with([of_nothing], *MODELS).checks()
    assert check.holds is None
    assert "nan" not in check.evidence
