"""Results in one file are read as results in many, and no way of making the one file loses any."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frames import EXPERIMENT
from frames import result as example

from rethink_gen import digests, experiment
from rethink_gen.cli import main
from rethink_gen.data.dataset import PUBLISHED
from rethink_gen.errors import StorageError
from rethink_gen.results import failing, kept, locks, packs, store
from rethink_gen.study import packing, running
from rethink_gen.study.merging import merge

OWN = ["--experiments", "mine"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An experiment of ten runs with their results, in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/labels.py").write_text(EXPERIMENT)
    place = Path("results/labels/laptop")
    for seed, run in enumerate(experiment.find("labels", Path("mine")).at("laptop").runs):
        made = example(run, test=0.4 + seed / 100)
        store.save(replace(made, provenance={**made.provenance, "data_sha256": PUBLISHED["digits"]}), place)
    return place


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_table_verify_status_and_merge_say_of_a_pack_what_they_say_of_files(folder, capsys):
    def said():
        for line in (["table", "labels"], ["status", "labels"], ["verify", "labels"], ["plot", "labels"]):
            assert main.main([*line, *OWN]) == 0
        return capsys.readouterr().out

    before, files = said(), contents(folder)
    assert main.main(["pack", "labels", *OWN]) == 0
    assert capsys.readouterr().out == "results/labels/laptop/runs.jsonl: 10 results, 10 of them new\n"
    assert not list(folder.glob("*.json"))
    assert said() == before
    assert main.main(["run", "labels", "--dry-run", *OWN]) == 0
    assert capsys.readouterr().out == "", "nothing is to be trained"
    [merged] = merge(["results"], results="elsewhere", experiments="mine")
    assert merged.copied == 10
    there = contents(Path("elsewhere/labels/laptop"))
    assert {name: there[name] for name in files} == files, "to the byte"


def test_packs_of_equal_results_are_equal_and_packing_again_changes_nothing(folder):
    results = store.load(folder)
    for each in reversed(results):
        store.save(each, Path("other"))
    for place in (folder, Path("other"), folder):
        packing.pack_folder(place)
    assert (folder / packs.FILE).read_bytes() == Path("other", packs.FILE).read_bytes()
    assert store.load(folder) == results


def test_run_trained_anew_lies_beside_the_pack_and_wins_until_it_is_packed_too(folder):
    first, *others = store.load(folder)
    packing.pack_folder(folder)
    anew = replace(first, status="diverged")
    assert store.save(anew, folder).suffix == ".conflict", "a line is a result that is there"
    path = store.save(anew, folder, replace=True)
    assert path.is_file()
    assert store.load(folder) == [anew, *others]
    assert packing.pack_folder(folder) == (folder, 10, 1, ())
    assert not path.exists()
    assert store.load(folder) == [anew, *others]


def test_run_that_another_process_works_on_keeps_its_file(folder):
    [first, *_] = store.load(folder)
    with locks.claim(folder, first.id):
        assert packing.pack_folder(folder).left == (first.id,)
    assert [path.stem for path in folder.glob("*.json")] == [first.id]
    assert packing.pack_folder(folder).moved == 1


def test_file_that_was_published_while_the_pack_was_written_is_kept(folder, monkeypatch):
    [first, *_] = store.load(folder)
    anew = replace(first, status="diverged")
    write = packing.atomic.write

    def rival(path, content):
        write(path, content)
        if path.name == packs.FILE:
            monkeypatch.setattr(packing.atomic, "write", write)
            store.save(anew, folder, replace=True)

    monkeypatch.setattr(packing.atomic, "write", rival)
    assert packing.pack_folder(folder).left == (first.id,)
    assert store.load(folder)[0] == anew


def test_readers_see_every_result_while_results_are_packed(folder):
    results, seen = store.load(folder), []
    stop = threading.Event()

    def look():
        while not stop.is_set():
            seen.append(store.load(folder))

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(5):
        for each in results:
            store.save(each, folder, replace=True)
        packing.pack_folder(folder)
    stop.set()
    reader.join()
    assert seen
    assert all(each == results for each in seen)


def test_no_flipped_bit_of_a_pack_is_loaded_silently(folder):
    results = store.load(folder)
    packing.pack_folder(folder)
    pack, rng = folder / packs.FILE, np.random.default_rng(0)
    content = pack.read_bytes()
    for place, bit in zip(rng.integers(len(content), size=200), rng.integers(8, size=200), strict=True):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        pack.write_bytes(flipped)
        sound, damaged = store.sift(folder)
        assert all(each in results for each in sound)
        assert damaged or sound == results


def test_damaged_line_is_named_with_its_number_and_hides_no_other(folder, capsys):
    packing.pack_folder(folder)
    pack = folder / packs.FILE
    good = pack.read_bytes()
    lines = good.splitlines(keepends=True)
    pack.write_bytes(b"".join([*lines[:3], lines[3].replace(b"finished", b"diverged"), *lines[4:]]))
    named = "results/labels/laptop/runs.jsonl:4: damaged: its checksum does not match; delete this line and run again"
    for verb in ("table", "verify", "run"):
        assert main.main([verb, "labels", *OWN]) == 1
        out, err = capsys.readouterr()
        assert named in out + err
        assert "9 " in out
    assert main.main(["pack", "labels", *OWN]) == 4
    assert named in capsys.readouterr().err
    pack.write_bytes(good.replace(b"\n", b"\n<<<<<<< theirs\n", 1) + lines[0].replace(b"finished", b"diverged"))
    sound, damaged = store.sift(folder)
    assert len(sound) == 10
    assert all("delete this line and run again" in str(error) for error in damaged), "and not the pack"
    assert {error.place.name for error in damaged} == {"runs.jsonl:2", "runs.jsonl:12"}


def test_damaged_line_is_trained_again_by_force(folder):
    packing.pack_folder(folder)
    pack = folder / packs.FILE
    [first, *_] = before = store.load(folder)
    pack.write_bytes(pack.read_bytes().replace(b"finished", b"diverged", 1))
    planned = running.plan("labels", experiments="mine")
    assert first.run not in running.to_do(planned)
    assert first.run in running.to_do(planned, force=True)
    store.save(first, folder, replace=True)
    assert store.load(folder) == before
    packing.pack_folder(folder)
    assert store.load(folder) == before


@pytest.mark.parametrize("spoil", [os.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_pack_that_cannot_be_read_is_named_and_nothing_is_trained_twice(spoil, folder, capsys):
    packing.pack_folder(folder)
    (folder / packs.FILE).rename("away")
    spoil(folder / packs.FILE)
    assert [error.path for error in store.sift(folder)[1]] == [folder / packs.FILE]
    for verb in ("run", "pack"):
        assert main.main([verb, "labels", *OWN]) == 4
        assert "runs.jsonl: " in capsys.readouterr().err
    assert not list(folder.glob("*.json"))


def test_damaged_file_is_not_packed_and_everything_stays_as_it_was(folder, capsys):
    path = min(folder.glob("*.json"))
    path.write_bytes(path.read_bytes().replace(b"finished", b"diverged"))
    before = contents(folder)
    assert main.main(["pack", "labels", *OWN]) == 4
    assert f"{path}: damaged" in capsys.readouterr().err
    assert contents(folder) == before


def test_pack_is_read_back_before_a_file_is_removed(folder, monkeypatch):
    before = contents(folder)
    with monkeypatch.context() as patched:
        patched.setattr(packing.atomic, "write", lambda path, content: path.write_bytes(content[:-9]))
        with pytest.raises(StorageError, match="is not what was written"):
            packing.pack_folder(folder)
    assert before.items() <= contents(folder).items()


def test_id_in_a_line_is_no_path(folder):
    packing.pack_folder(folder)
    pack = folder / packs.FILE
    first, *rest = pack.read_bytes().splitlines(keepends=True)
    stranger = first.replace(f'"id":"{store.load(folder)[0].id}"'.encode(), b'"id":"../../../stranger"')
    assert stranger != first
    pack.write_bytes(b"".join([stranger, *rest]))
    assert all(path.parent == folder for path in packs.paths(folder))
    assert [error.place.name for error in store.sift(folder)[1]] == ["runs.jsonl:1"]


def test_weights_and_records_stay_with_a_packed_result(folder):
    [first, *_] = store.load(folder)
    path = store.save(replace(first, weights={"kernel": np.arange(3.0)}), folder, replace=True)
    packing.pack_folder(folder)
    assert store.whole(path).weights["kernel"].tolist() == [0, 1, 2]
    assert store.done(folder, first.run, weights=True)
    kept.file(path, "weights").write_bytes(b"PK")
    with pytest.raises(StorageError, match="of another result"):
        store.whole(path)


def test_packed_result_of_code_that_has_changed_is_set_aside_and_trained_again(folder, monkeypatch):
    packing.pack_folder(folder)
    first, *others = store.load(folder)
    path = store.result_file(folder, first.run)
    content = store.as_file(path)[0]
    monkeypatch.setattr(digests, "of_run", lambda run: {"corruption mine": "other"} if run == first.run else {})
    assert not store.done(folder, first.run)
    anew = replace(first, provenance={**first.provenance, "code": {"corruption mine": "other"}})
    assert store.save(anew, folder) == path
    [stale] = folder.glob("*.stale")
    assert stale.read_bytes() == content
    assert store.load(folder) == [anew, *others]


def test_packed_result_of_another_experiment_is_taken_over(folder):
    packing.pack_folder(folder)
    [first, *_] = store.load(folder)
    copied = store.adopt(first.run, Path("results/others/laptop"))
    assert copied
    assert store.read(copied) == first


def test_merge_refuses_another_result_of_a_packed_run(folder):
    [first, *_] = store.load(folder)
    store.save(replace(first, status="diverged"), Path("part/labels/laptop"))
    packing.pack_folder(folder)
    with pytest.raises(StorageError, match="conflicting results for one run"):
        list(merge(["part"], results="results", experiments="mine"))


def test_failure_of_a_packed_run_is_over(folder):
    [first, *_] = store.load(folder)
    packing.pack_folder(folder)
    failing.save(failing.Failure(first.run, "no memory"), folder)
    assert not failing.among([first.run], folder)


def test_without_names_folders_of_many_results_are_packed(folder, monkeypatch, capsys):
    for name in ("smoke/x", "train"):
        store.copy(min(folder.glob("*.json")), Path("results", name, ""))
    store.copy(min(folder.glob("*.json")), Path("results/labels/smoke"))
    monkeypatch.setattr(packing, "MANY", 10)
    assert main.main(["pack", "--scale", "paper"]) == 2
    assert "no results to pack" in capsys.readouterr().err
    assert main.main(["pack", "--scale", "smoke"]) == 2
    assert "no folder in results has 10 results" in capsys.readouterr().err
    assert main.main(["pack"]) == 0
    assert capsys.readouterr().out.splitlines() == ["results/labels/laptop/runs.jsonl: 10 results, 10 of them new"]
    assert main.main(["pack", "train", "labels", "--scale", "smoke", *OWN]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "results/train/runs.jsonl",
        "results/labels/smoke/runs.jsonl",
    ]


def test_committed_results_are_few_files_and_small():
    root = experiment.HERE.parent / "results"
    many = [place for place in root.glob("*/*") if len(list(place.glob("*.json"))) >= packing.MANY]
    assert not many, "run: rethink-gen pack"
    committed = [path for end in ("json", "jsonl", "md", "png", "svg") for path in root.glob(f"*/*/*.{end}")]
    assert sum(path.stat().st_size for path in committed) < 40e6


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["lables"], "did you mean 'labels'"),
        (["labels", "--scale", "huge"], "scale"),
        (["train"], "no results to pack"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_line(words, part, folder, capsys):
    assert main.main(["pack", *words, *OWN]) == 2
    assert part in capsys.readouterr().err
