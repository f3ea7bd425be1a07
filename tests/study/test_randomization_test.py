"""The randomization test of anyone's network: what the suite chooses, what it says, and how its results are found."""

import json
import math
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import numpy as np
import pytest
from randomized import BASE, OTHERS, RUNS, fitted, result

import rethink_gen as rg
from rethink_gen.analysis import randomization, report
from rethink_gen.cli import main
from rethink_gen.errors import RethinkError, UsageError
from rethink_gen.results import store
from rethink_gen.study import finding, randomization_test, running

PAGE = (Path(__file__).parents[2] / "docs" / "randomization_test.md").read_text()
FILES = dict(re.findall(r"<!-- (\S+) -->\n```python\n(.+?)```", PAGE, re.DOTALL))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What the suite chooses.


def choices(examples, sides=(8, 8), settings=(), **fields):
    data = randomization_test._Data(examples, sides, False)
    found = randomization_test._choices(replace(BASE, **fields), data, dict.fromkeys(settings))
    return {name: value for name, (value, _) in found.items()}


@pytest.mark.parametrize(("examples", "batch"), [(40, 8), (300, 8), (480, 16), (1500, 32), (3840, 128), (50_000, 128)])
def test_batch_gives_at_least_30_steps_an_epoch_where_it_can(examples, batch):
    assert choices(examples)["batch_size"] == batch


def test_epochs_are_10000_steps_and_at_least_100():
    assert choices(1500)["epochs"] == math.ceil(10_000 / 46)
    assert choices(50_000)["epochs"] == 100
    assert choices(1500, settings=["batch_size"], batch_size=150)["epochs"] == 1000


def test_examples_that_are_held_out_do_not_count():
    run = replace(BASE, dataset="digits", train_size=1000, validation_size=300)
    assert randomization_test._data_of(run).examples == 700


def test_what_is_given_is_not_chosen():
    given = ["batch_size", "epochs", "stop_at_train_accuracy", "learning_rate_decay"]
    assert choices(1500, settings=given) == {}
    assert choices(1500, settings=["schedule"]).keys() == {"batch_size", "epochs", "stop_at_train_accuracy"}


def test_feature_vectors_are_not_whitened_and_large_images_stay_whole():
    assert choices(1500, (1, 1))["whitening"] is False
    assert choices(1500, (64, 48))["crop_size"] == 64
    assert not {"whitening", "crop_size"} & choices(1500, (32, 32)).keys()


def test_corruptions_of_feature_vectors_change_them():
    """Pixels of a feature vector are one, so shuffling those would do nothing."""
    data = randomization_test._Data(100, (1, 1), False)
    names = {run.corruption for run in randomization_test._runs(BASE, data, None, [1.0], [0])}
    kept = {"true_labels", "random_labels"}
    assert len(names) == 5
    assert kept < names
    rng = np.random.default_rng(0)
    vectors = rg.Dataset.from_arrays("vectors", train=(rng.normal(size=(40, 6)), np.arange(40) % 2))
    for name in names - kept:
        corrupted = rg.corrupt(vectors, name, seed=0)
        assert (corrupted.train.images != vectors.train.images).any(axis=(1, 2, 3)).all(), name


def test_true_labels_are_always_part_and_levels_are_of_random_labels_alone():
    data = randomization_test._Data(100, (8, 8), False)
    runs = randomization_test._runs(BASE, data, ["random_labels", "gaussian"], [1, 0.2], [0, 1])
    assert [(run.corruption, run.corruption_level) for run in runs if run.seed == 0] == [
        ("true_labels", 1.0),
        ("random_labels", 0.2),
        ("random_labels", 1.0),
        ("gaussian", 1.0),
    ]
    for levels in ([], [0], [1.1]):
        with pytest.raises(UsageError, match="levels"):
            randomization_test._runs(BASE, data, None, levels, [0])


def test_name_follows_from_model_data_and_what_is_given():
    name = randomization_test._name
    run = replace(BASE, model="mlp(hidden=64)", weight_decay=0.001, augmentations=("flip", "rotation"))
    assert name(run, {}) == "randomization_test_mlp_hidden_64_digits"
    given = {"weight_decay": 0.001, "augmentations": ()}
    assert name(run, given).startswith("randomization_test_mlp_hidden_64_digits_augmentations_f")
    assert len(name(run, given)) <= 64
    assert name(replace(run, weight_decay=0.1), given) != name(run, given)


# The search for a learning rate.


def search(monkeypatch, losses):
    """What the search chooses if its runs end with these losses on random labels, by rate."""

    def work_on(planned, runs, **_):
        for run in runs:
            loss = losses(run.learning_rate) if run.corruption == "random_labels" else 0.0
            status = "finished" if loss is not None else "diverged"
            store.save(result(run, losses=[2.3, loss], status=status), planned.folder)
        return []

    monkeypatch.setattr(running, "work_on", work_on)
    data = randomization_test._Data(1500, (8, 8), False)
    return randomization_test._search("a_test", BASE, data, 0, results="results", workers=1, report=None)


def test_search_takes_the_rate_below_the_one_with_the_lowest_loss(monkeypatch):
    rate, why = search(monkeypatch, lambda rate: None if rate > 0.1 else abs(math.log(rate / 0.03)))
    assert rate == 0.01
    assert "than 0.03" in why


def test_search_does_not_choose_a_rate_that_diverged(monkeypatch):
    assert search(monkeypatch, lambda rate: None if rate > 0.001 else 1.0)[0] == 0.0003


def test_search_in_which_all_rates_diverge_says_so(monkeypatch):
    with pytest.raises(RethinkError, match=r"every learning rate from 0\.001 to 1 diverged; give a lower one"):
        search(monkeypatch, lambda rate: None)


def test_learning_rate_of_a_built_in_model_is_that_of_the_catalog():
    assert randomization_test._has_default(BASE)
    assert not randomization_test._has_default(replace(BASE, optimizer="adam"))
    assert not randomization_test._has_default(replace(BASE, model="unknown"))


# All of it, as a new user meets it.


def own_network(size):
    """The file of the page with fewer examples, as a plug-in in this folder."""
    Path("my_network.py").write_text(FILES["my_network.py"].replace("1500", str(size)))
    return ["--model", "tiny", "--dataset", "scans", "--plugin", "my_network.py"]


def changed_at():
    return {path: path.stat().st_mtime_ns for path in Path("results").glob("*/laptop/*.json")}


NAME = "randomization_test_tiny_scans"


def test_command_on_a_users_own_file_and_everything_that_finds_its_results(monkeypatch, capsys):
    monkeypatch.setattr(randomization_test, "RATES", (0.003, 0.01, 0.03))
    given = own_network(96)
    short = ["--epochs", "3", "--corruptions", "random_labels", "--seeds", "0"]
    assert main.main(["randomization-test", *given, *short]) == 0
    out = capsys.readouterr().out
    name = f"{NAME}_epochs_3"
    table = Path("results") / name / "laptop" / "table.md"
    assert table.read_text().rstrip("\n") in out
    assert f"figure: {table.with_name('figure.png')}" in out
    assert table.with_name("figure.png").read_bytes().startswith(b"\x89PNG")
    rates = {json.loads(path.read_text())["run"]["learning_rate"] for path in changed_at() if "epochs" in str(path)}
    assert rates >= set(randomization_test.RATES[1:])
    assert "* learning_rate " in out
    assert "4 short runs" in out

    before = changed_at()
    assert len(before) == 4 + 2
    assert main.main(["randomization-test", *given, *short]) == 0
    assert changed_at() == before, "a second call trains nothing"

    capsys.readouterr()
    assert main.main(["status", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["experiment"], row["scale"], row["done"], row["missing"]) == (name, "laptop", 2, 0)
    assert main.main(["table", NAME]) == 0
    assert capsys.readouterr().out.rstrip("\n") == table.read_text().rstrip("\n")
    assert main.main(["plot", NAME, "--output", "curves.svg"]) == 0
    assert Path("curves.svg").exists()
    assert main.main(["verify", "--plugin", "my_network.py"]) == 0
    assert "4 short runs" in report.render([rg.load(NAME)])
    assert main.main(["run", NAME, "--dry-run", "--plugin", "my_network.py"]) == 0
    assert rg.load(NAME).runs["num_params"].nunique() == 1


class Small(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(nn.relu(nn.Dense(16)(x.reshape(len(x), -1))))


def small_test(corruptions=("shuffled_pixels", "random_labels"), **options):
    """A test of a few epochs on 64 points in the plane."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    data = rg.Dataset.from_arrays("points", train=(rng.normal(labels[:, None], 0.3, (80, 2)), labels))
    return rg.randomization_test(Small, data, corruptions=corruptions, learning_rate=0.1, epochs=4, **options)


def test_flax_module_that_is_not_registered_and_more_seeds_later():
    study = small_test()
    assert study.experiment.name == "randomization_test_Small_points_epochs_4_learning_rate_0.1"
    assert len(study.results) == 3
    before = changed_at()
    study = small_test(seeds=(0, 1), corruptions=["random_labels"], levels=(0.5, 1))
    assert len(changed_at()) == 3 + 4
    assert {path: changed_at()[path] for path in before} == before
    assert "<svg" in study._repr_html_()
    kept = rg.load("randomization_test_Small")
    assert {run.corruption for run in kept.experiment.runs} == {
        "true_labels",
        "random_labels",
        "shuffled_pixels_channels_apart",
    }
    assert (len(kept.results), kept.missing) == (7, ()), "what an earlier call trained is not left out by a later one"
    study = small_test(seeds=(2,), corruptions=["random_labels"], force=True)
    assert {path: changed_at()[path] for path in before} == before, "what was not asked for is not trained again"
    assert len(study.results) == len(changed_at()) == 3 + 4 + 2


def test_interrupted_test_keeps_what_is_done_and_continues(monkeypatch):
    def stop_in_third_run(progress):
        if progress.done_runs == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_test(report=stop_in_third_run, workers=1)
    before = changed_at()
    assert len(before) == 2
    assert len(rg.load("randomization_test_Small").missing) == 1
    study = small_test(workers=1)
    assert not study.missing
    assert {path: changed_at()[path] for path in before} == before


def test_network_that_fails_in_the_search_is_named():
    class Broken(Small):
        @nn.compact
        def __call__(self, x):
            raise ValueError("no way")

    with pytest.raises(RethinkError, match="model 'Broken' failed: ValueError: no way"):
        rg.randomization_test(Broken, "digits", train_size=64, results="results")


def test_settings_that_the_test_varies_are_refused():
    for name in ("corruption", "corruption_level", "seed", "learning_rat"):
        with pytest.raises(UsageError, match=f"no setting of a randomization test named '{name}'"):
            rg.randomization_test("mlp_1x512", "digits", **{name: 1})
    assert not Path("results").exists()


# Tests that are kept beside their results.


def test_kept_test_is_read_as_it_was_written():
    test = replace(randomization.declare("randomization_test_x", (*RUNS, *OTHERS), "Notes."))
    finding.keep(test, "results")
    again = finding.find("randomization_test_x", None, "results")
    assert (again.runs, again.doc, again.claim, again.name) == (test.runs, test.doc, test.claim, test.name)


def test_damaged_file_of_a_kept_test_is_named_and_others_are_shown(capsys):
    finding.keep(randomization.declare("randomization_test_x", RUNS), "results")
    path = Path("results/randomization_test_x/experiment.jsonl")
    for content in (b"", b"{}", b"\xff", b'{"doc": ""}\n', b'{"doc": ""}\n{"modle": 1}', b'{"doc": ""}\n[]'):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"experiment\.jsonl: cannot be read .*writes it anew"):
            finding.find("randomization_test_x", None, "results")
    assert main.main(["status"]) == 2
    assert "experiment.jsonl" in capsys.readouterr().err


def test_beginning_of_several_names_is_refused_and_a_mistyped_name_gets_the_nearest():
    for name in ("randomization_test_a", "randomization_test_b"):
        finding.keep(randomization.declare(name, RUNS), "results")
    with pytest.raises(UsageError, match=r"could be .*randomization_test_a, randomization_test_b; give more letters"):
        finding.find("randomization_test_", None, "results")
    with pytest.raises(UsageError, match="did you mean 'randomization_test_a'"):
        finding.find("randomisation_test_a", None, "results")
    assert finding.find("quickstart", None, "results").name == "quickstart"


def test_tab_completes_the_name_of_a_kept_test(here):
    finding.keep(randomization.declare("randomization_test_x", RUNS), "results")
    line = "rethink-gen table randomization_test_x"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(here / "words")
    subprocess.run([sys.executable, "-m", "rethink_gen"], env={**os.environ, **asked}, check=True)
    assert (here / "words").read_text().split() == ["randomization_test_x"]


def test_merge_brings_the_test_along():
    for part, run in zip(("one", "two"), RUNS, strict=False):
        finding.keep(randomization.declare("randomization_test_x", RUNS), part)
        store.save(fitted(run, 1), Path(part, "randomization_test_x", "laptop"))
    assert main.main(["merge", "one", "two"]) == 0
    study = rg.load("randomization_test_x")
    assert (len(study.results), len(study.missing)) == (2, 1)
    assert (study.folder / "table.md").read_text() == study.text()


def test_merged_tests_of_one_name_keep_the_versions_of_both():
    """The second source's Gaussian images were copied, and shown nowhere."""
    true, random, *_ = RUNS
    gaussian = replace(true, corruption="gaussian")
    for part, runs in (("one", (true, random)), ("two", (true, gaussian))):
        finding.keep(randomization.declare("randomization_test_x", runs), part)
        for run in runs:
            store.save(fitted(run, 1), Path(part, "randomization_test_x", "laptop"))
    assert main.main(["merge", "one", "two"]) == 0
    assert {result.run for result in rg.load("randomization_test_x").results} == {true, random, gaussian}


def test_script_of_the_page_runs(here, monkeypatch, capsys):
    """With fewer examples, versions, epochs and seeds than it has."""
    own_network(64)
    fewer = "levels=(0.5, 1), corruptions=['random_labels'], epochs=2, learning_rate=0.01"
    Path("my_test.py").write_text(FILES["my_test.py"].replace("levels=(0.5, 1), seeds=range(3)", fewer))
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    monkeypatch.syspath_prepend(here)
    runpy.run_path("my_test.py")
    assert "3 of 3 runs done" in capsys.readouterr().out
    assert Path("curves.png").exists()
    del sys.modules["my_network"]
