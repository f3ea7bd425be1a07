"""A result whose checksum is right can hold anything: it is checked, named and left out, and hides no other."""

import json
import math
from dataclasses import replace

import pytest
from frames import EXPERIMENT
from frames import result as example

from rethink_gen import experiment
from rethink_gen.cli import main
from rethink_gen.results import frames, packs, results_cache, store, validation
from rethink_gen.runs import Run
from rethink_gen.version import __version__

RUN = Run(corruption="random_labels", seed=3)
VERSIONS = {"rethink-gen": "0.1", "jax": "1", "jaxlib": "1", "numpy": "2"}

# Where in a file → what stands there. All are of a type or in a range that no run gives.
WRONG = {
    "status": ["", "done", None, 1, ["finished"], "running"],
    "id": ["", None, 3, "../x"],
    "kind": [None, 7, []],
    "run": [None, [], "mlp", 1],
    "run.seed": ["one", -1, None, 1.5, True, 10**400],
    "run.epochs": [0, "", [], 10**20],
    "run.augmentations": [3, {}, [1], [["flip"]]],
    "run.dataset": [None, {}, 3, "a/b"],
    "curves": [None, [], {}, 3],
    "curves.epoch": [None, [], 5, [0], ["0", "1"], [None, 1], [1, 0], [-1, 0], [0.5, 1], [0, 10**300]],
    "curves.step": [[0], {}, ["a", "b"], [0, -3], [0, True], [0, 1e300]],
    "curves.train_accuracy": [None, [], [0, 1, 1], [0, "1"], [0, [1]], [0, 1.01], [-0.1, 1], [0, 10**400], [0, True]],
    "curves.test_loss": [[0, {}], [0, ""], [10**309, 0], {"0": 1}],
    "curves.model": [[0, 1]],
    "curves.last": [[0, 1]],
    "curves.run": [[0, 1]],
    "curves.test_error": [[0, 1]],
    "curves.with space": [[0, 1]],
    "provenance": [None, [], "cpu", {}],
    "provenance.device": [None, 3, ["cpu"], {}],
    "provenance.num_train": [None, "96", -1, 0, 1.5, [], 10**30],
    "provenance.num_test": [None, {}, True],
    "provenance.num_params": [None, "96", -1, 1.5],
    "provenance.num_classes": [[], True, 10**30],
    "provenance.seconds_train": ["1", -1, [], 10**400],
    "provenance.versions": [None, [], "1", {"jax": 1}],
    "correct": [None, [], "1", {"train": 1}, {"elsewhere": "AA=="}, {"seen": "AA=="}],
    "provenance.code": [[], "x", {"a": None}],
    "provenance.data_sha256": [7, [], None],
}
MUTATIONS = [(where, value) for where, values in WRONG.items() for value in values]


def write(path, content):
    """A result file whose checksum is right."""
    content.pop("sha256", None)
    path.write_text(json.dumps({**content, "sha256": store._digest(content)}))


def mutate(path, where, value):
    """Puts a value at a place such as curves.epoch in a result file."""
    content = json.loads(path.read_bytes())
    *outer, name = where.split(".")
    inside = content
    for key in outer:
        inside = inside[key]
    inside[name] = value
    write(path, content)


@pytest.fixture
def sound(tmp_path):
    result = example(RUN)
    return store.save(replace(result, provenance={**result.provenance, "versions": VERSIONS}), tmp_path)


@pytest.mark.parametrize(("where", "value"), MUTATIONS, ids=[f"{where}={str(v)[:20]}" for where, v in MUTATIONS])
def test_odd_content_under_a_valid_checksum_is_damage_and_names_the_file(where, value, sound):
    mutate(sound, where, value)
    results, damaged = store.sift(sound.parent)
    assert not results
    assert [error.path for error in damaged] == [sound]


def test_there_are_as_many_mutations_as_were_found_to_fail():
    assert len(MUTATIONS) >= 57


@pytest.mark.parametrize(
    "unusual",
    [
        {"curves.train_accuracy": [0, 1], "curves.test_accuracy": [None, None]},
        {"curves.train_loss": [1e300, None], "status": "diverged"},
        {"curves.epoch": [0.0, 20.0]},
        {"provenance.seconds_train": None, "provenance.more": {"anything": [1]}},
        {"curves.a_metric_of_ones_own": [-5, 1e9]},
    ],
)
def test_unusual_content_that_a_run_can_give_is_read_and_has_a_frame(unusual, sound):
    for where, value in unusual.items():
        mutate(sound, where, value)
    assert len(frames.frame([store.read(sound)])) == 2


def test_a_sparse_file_of_60_gigabytes_is_not_read(sound):
    with sound.open("ab") as file:
        file.truncate(60 << 30)
    with pytest.raises(store.Damaged, match="larger than 256 MB"):
        store.read(sound)


def test_terminal_escapes_in_the_device_of_a_stranger_are_not_shown(places, no_other_results, capsys):
    for path in places.glob("*.json"):
        mutate(path, "provenance.device", "\x1b]0;owned\x07\x1b[31ma chip\n\r")
    for verb in ("show", "table", "verify"):
        main.main([verb, "labels", "--experiments", "mine"])
    assert not set("\x1b\x07\r") & set("".join(capsys.readouterr()))


@pytest.mark.parametrize("part", ["field", "schema", "kind"])
def test_result_of_a_newer_version_says_which_version_reads_it(part, sound):
    """A result with a field that is not known here is a good result: nobody is told to remove it."""
    content = json.loads(sound.read_bytes())
    content["provenance"]["versions"]["rethink-gen"] = "9.1.0"
    if part == "field":
        content["run"]["sharpness"] = 0.1
    else:
        content[part] = {"schema": 2, "kind": "diffusion"}[part]
    write(sound, content)
    with pytest.raises(store.Damaged) as raised:
        store.read(sound)
    said = str(raised.value)
    assert said.startswith(f"{sound}: has the {part}")
    assert said.endswith(f"which rethink-gen {__version__} does not know; to read it, install rethink-gen 9.1.0")
    assert "delete" not in said


def test_result_of_a_newer_version_is_not_overwritten_by_force(sound):
    mutate(sound, "run.sharpness", 0.1)
    before = sound.read_bytes()
    with pytest.raises(store.Damaged):
        store.save(example(RUN), sound.parent, replace=True)
    assert sound.read_bytes() == before
    mutate(sound, "status", "odd")
    content = json.loads(sound.read_bytes())
    content["run"].pop("sharpness")
    write(sound, content)
    assert store.save(example(RUN), sound.parent, replace=True) == sound
    assert store.read(sound).status == "finished", "what is damaged is replaced by force"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An experiment of ten runs with their results, and the options that name both folders."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.py").write_text(EXPERIMENT)
    folder = tmp_path / "results" / "labels" / "laptop"
    for run in experiment.find("labels", tmp_path / "mine").at("laptop").runs:
        result = example(run)
        store.save(replace(result, provenance={**result.provenance, "versions": VERSIONS}), folder)
    return folder


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("verb", ["table", "plot", "show", "verify", "report", "run"])
def test_every_command_names_the_odd_files_and_shows_the_rest(
    verb, cached, places, no_other_results, monkeypatch, capsys
):
    if cached:
        monkeypatch.setattr(results_cache, "_LARGE", 1)
    odd = sorted(places.glob("*.json"))[:4]
    mutate(odd[0], "curves.train_accuracy", [0.1, "1"])
    mutate(odd[1], "provenance.num_train", None)
    mutate(odd[2], "run.sharpness", 1)
    with odd[3].open("ab") as file:
        file.truncate(60 << 30)
    name = [] if verb == "report" else ["labels"]
    assert main.main([verb, *name, "--experiments", "mine"]) == 1
    out, err = capsys.readouterr()
    assert str(odd[0]).removeprefix(f"{places.parents[2]}/") in err.splitlines()[-1]
    assert "Error" not in err
    shown = {
        "table": "6 of 10 runs done.",
        "run": "6 of 10 runs done.",
        "plot": "figure.png",
        "show": "Labels matter.",
        "verify": "6 results with the right checksum",
        "report": "report.html",
    }
    assert shown[verb] in out
    if verb == "verify":
        assert all(path.name in out for path in odd)


def test_results_that_are_all_damaged_are_named_and_not_called_missing(places, capsys):
    for path in places.glob("*.json"):
        mutate(path, "status", None)
    for verb in ("table", "plot"):
        assert main.main([verb, "labels", "--experiments", "mine"]) == 4
        assert "status must be finished or diverged); delete it" in capsys.readouterr().err


def test_largest_number_and_missing_values_fit_a_curve():
    assert validation._fit("train_loss", [-1.6e308, None, 3])
    assert validation._fit("test_accuracy", [None])
    for wrong in (math.inf, math.nan, True, "0.5"):
        assert not validation._fit("train_loss", [0.5, wrong])


def test_every_committed_result_is_read():
    """Also of experiments whose runs have no accuracy, or points of a path in place of epochs."""
    root = experiment.HERE.parent / "results"
    paths = [path for folder in root.glob("*/*") for path in packs.paths(folder)[:3]]
    assert len(paths) > 40
    for path in paths:
        store.read(path)
