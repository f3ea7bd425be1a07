"""Results that machines without a common disk have made are joined whole, or not at all."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frames import EXPERIMENT

from rethink_gen import registry
from rethink_gen.cli import main
from rethink_gen.data import datasets
from rethink_gen.data.dataset import Dataset
from rethink_gen.errors import StorageError
from rethink_gen.experiment import Experiment
from rethink_gen.results import failing, store
from rethink_gen.results.result import Result
from rethink_gen.runs import Run
from rethink_gen.study import studies, verification
from rethink_gen.study.merging import merge

RUN = Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=2)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """A folder of experiments named `mine`, in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/labels.py").write_text(EXPERIMENT)


def result(run=RUN, accuracy=0.5, seconds=1.0):
    curves = {name: [0.1, accuracy] for name in ("train_accuracy", "test_accuracy", "train_loss", "test_loss")}
    about = {"device": "cpu", "num_train": 64, "num_test": 50, "seconds_train": seconds, "seconds_compile": 0.0}
    return Result(run, "finished", {"epoch": [0, 1], "step": [0, 2], **curves}, about)


def made(part, *found):
    """Results where a machine might have left them."""
    return [store.save(each, Path(part) / "labels" / "laptop") for each in found]


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def curves(folder):
    return {path.name: store.read(path).curves for path in Path(folder).rglob("*.json")}


def test_eight_shards_merged_are_one_run():
    own = ["--experiments", "mine"]
    assert main.main(["run", "labels", *own, "--results", "whole"]) == 0
    for i in range(1, 9):
        assert main.main(["run", "labels", *own, "--shard", f"{i}/8", "--results", f"parts/{i}"]) == 0
    parts = [curves(folder) for folder in sorted(Path("parts").iterdir())]
    assert len(parts) > 1
    assert sum(map(len, parts)) == len(set().union(*parts)) == 10, "disjoint and complete"
    assert not [path for path in content("parts") if path.name in ("table.md", "figure.svg")]
    assert main.main(["merge", *map(str, Path("parts").iterdir()), *own, "--results", "merged"]) == 0
    assert curves("merged") == curves("whole")
    for name in ("table.md", "figure.svg", "figure.png"):
        assert Path("merged/labels/laptop", name).read_bytes() == Path("whole/labels/laptop", name).read_bytes()


def test_merging_again_changes_nothing_and_finishes_what_was_stopped(capsys):
    made("part1", result(), result(replace(RUN, seed=1)))
    made("part2", result(replace(RUN, seed=1), seconds=9.0), result(replace(RUN, seed=2)))
    line = ["merge", "part1", "part2", "--experiments", "mine"]
    assert main.main(line) == 0
    assert "results/labels/laptop: 3 copied, 0 there before, table renewed" in capsys.readouterr().out
    before = content("results")
    Path("results/labels/laptop/table.md").unlink()
    made_last = store.result_file(Path("results/labels/laptop"), replace(RUN, seed=2))
    made_last.unlink()
    assert main.main(line) == 0
    assert "1 copied, 2 there before" in capsys.readouterr().out
    assert content("results") == before
    assert not list(Path("results").rglob(".*-*"))


def test_another_result_of_the_same_run_is_refused_and_nothing_copied(capsys):
    made("part1", result())
    [other] = made("part2", result(accuracy=0.75))
    assert main.main(["merge", "part1", "part2"]) == 4
    assert f"{other}: conflicting results for one run: part1/labels/laptop/{other.name}" in capsys.readouterr().err
    assert not Path("results").exists()
    assert main.main(["merge", "part1"]) == 0
    before = content("results")
    assert main.main(["merge", "part2"]) == 4
    assert f"{other}: conflicting results for one run: results/labels" in capsys.readouterr().err
    assert content("results") == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "not a result file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6")), "checksum"),
        (lambda path: shutil.move(path, path.with_stem("another")), "its name says otherwise"),
        (lambda path: shutil.move(path, path.with_suffix(".1.conflict")), "conflicting result"),
    ],
)
def test_file_that_is_not_the_result_it_was_is_named_and_nothing_copied(spoil, said, capsys):
    made("part1", result(replace(RUN, seed=1)))
    [path] = made("part2", result())
    spoil(path)
    assert main.main(["merge", "part1", "part2"]) == 4
    err = capsys.readouterr().err
    assert "part2/labels/laptop" in err
    assert said in err
    assert not Path("results").exists()


def test_copies_are_the_files_themselves_and_failures_are_forgotten():
    made("part", result())
    folder = Path("results/labels/laptop")
    folder.mkdir(parents=True)
    failing.save(failing.Failure(RUN, "out of memory"), folder)
    [done] = merge(["part"], experiments="mine")
    assert (done.copied, done.there, done.renewed) == (1, 0, True)
    assert not failing.among([RUN], folder)
    [path] = folder.glob("*.json")
    assert path.read_bytes() == Path("part/labels/laptop", path.name).read_bytes()


def test_a_result_is_merged_with_its_weights_also_where_the_same_result_is_without():
    kept = replace(result(), weights={"params/kernel": np.ones(3)})
    made("part1", result(seconds=7.0))
    made("part2", kept)
    for sources, copied in ((["part1"], 1), (["part1", "part2"], 1), (["part1", "part2"], 0)):
        [done] = merge(sources, experiments="mine")
        assert done.copied == copied
    [path] = Path("results/labels/laptop").glob("*.json")
    assert store.whole(path).weights["params/kernel"].tolist() == [1, 1, 1]
    [wrong] = Path("part2").rglob("*.npz")
    wrong.write_bytes(b"of another run")
    with pytest.raises(StorageError, match="weights of another result"):
        list(merge(["part2"], results="elsewhere", experiments="mine"))
    assert not Path("elsewhere").exists(), "all files are compared before the first is copied"


def of_data(checksum, seed=0):
    made = result(replace(RUN, dataset="fashion_mnist", seed=seed))
    return replace(made, provenance={**made.provenance, "data_sha256": checksum})


def test_seeds_of_other_data_under_one_name_are_refused_and_named(own_data):
    """They would be averaged in one row."""
    made("part1", of_data("aa" * 32))
    [other] = made("part2", of_data("bb" * 32, seed=1))
    with pytest.raises(StorageError, match=f"{other}: made from other data named fashion_mnist than part1"):
        list(merge(["part1", "part2"], experiments="mine"))
    assert not Path("results").exists()
    list(merge(["part1"], experiments="mine"))
    with pytest.raises(StorageError, match="made from other data named fashion_mnist than results"):
        list(merge(["part2"], experiments="mine"))

    made("results", of_data("bb" * 32, seed=1))
    [finding] = verification.verify(results="results")
    [line] = [line for line in finding.wrong if "table.md" not in line]
    for part in ("made from different data named fashion_mnist", "(aaaaaaaa…)", "(bbbbbbbb…)", other.stem):
        assert part in line
    settings = tuple(replace(RUN, dataset="fashion_mnist", seed=seed) for seed in range(2))
    experiment = Experiment(claim="", locator="", runs=settings, laptop=settings, name="labels", scale="laptop")
    study = studies.gather(experiment, "results")
    assert "Results from different data are mixed: fashion_mnist." in study.text()


def test_results_of_other_data_than_those_that_are_here_are_wrong(monkeypatch):
    arrays = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    monkeypatch.setitem(registry.COMPONENTS, "dataset", {})
    here = replace(Dataset.from_arrays("own", arrays), name="fashion_mnist")
    monkeypatch.setattr(datasets, "find", lambda name: datasets._source_of(here))
    monkeypatch.setattr(datasets, "load", lambda name: here)
    made("results", of_data("aa" * 32))
    [finding] = verification.verify(results="results")
    [line] = finding.wrong
    assert f"made from other data than the fashion_mnist that is here ({here.checksum[:8]}…)" in line


def test_results_of_other_experiments_and_of_ones_own_runs_are_merged_without_a_table():
    store.save(result(), Path("part/nowhere/paper"))
    store.save(result(), Path("part/train"))
    (Path("part/notes.json")).write_text(json.dumps("of another kind"))
    assert [(str(done.folder), done.copied, done.renewed) for done in merge(["part"], experiments="mine")] == [
        ("results/nowhere/paper", 1, False),
        ("results/train", 1, False),
    ]


def test_results_that_differ_in_seconds_or_in_what_they_measure_are_the_same(tmp_path):
    """merge had its own comparison: seconds of learners, and metrics of a newer version, were conflicts."""
    plain = result()
    for part, more in (("one", {}), ("two", {"seconds_fit": [2.0] * len(plain.curves["epoch"])})):
        store.save(replace(plain, curves={**plain.curves, **more}), tmp_path / part / "mine" / "laptop")
    [merged] = merge([tmp_path / "one", tmp_path / "two"], results=tmp_path / "all")
    assert (merged.copied, merged.there) == (1, 0)
