"""Results read out of a copy are those in their files, whatever happens to either."""

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rethink_gen.cli import main
from rethink_gen.experiment import find
from rethink_gen.results import frames, packs, results_cache, store
from rethink_gen.runs import KINDS
from rethink_gen.study import packing, verification

COMMITTED = sorted((Path(__file__).parents[2] / "results").glob("*/*"))


@pytest.fixture(autouse=True)
def any_size_is_large(monkeypatch, tmp_path):
    monkeypatch.setattr(results_cache, "_LARGE", 1)
    monkeypatch.setattr(results_cache, "_BATCH", 3)
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def some():
    """Committed results of every kind, three of each: the first and the last of a folder are looked at."""
    taken: Counter[str] = Counter()
    found = []
    for path in (path for place in COMMITTED for path in packs.paths(place)[:: max(1, len(packs.paths(place)) - 1)]):
        kind = store.read(path).run.kind
        taken[kind] += 1
        if taken[kind] <= 3:
            found.append(path)
    return found


def copied(paths, tmp_path):
    folder = tmp_path / "quickstart" / "smoke"
    for path in paths:
        store.copy(path, folder)
    return folder


@pytest.fixture
def folder(some, tmp_path):
    """Results of every kind in one folder, one of each: a frame takes time for each set of columns."""
    return copied({store.read(path).run.kind: path for path in some}.values(), tmp_path)


def same(folder):
    """Asserts that the copy gives what the files hold; whether it had to read files for that."""
    sound, damaged = store.sift(folder)
    for _ in range(2):
        ours, named = results_cache.sift(folder)
        assert [(str(error), error.path) for error in named] == [(str(error), error.path) for error in damaged]
        pd.testing.assert_frame_equal(results_cache.frame(ours), frames.frame(sound), check_exact=True, check_like=True)
        for our, their in zip(ours, sound, strict=True):
            for what in ("run", "status", "curves", "provenance", "id", "setting", "seed", "data"):
                assert getattr(our, what) == getattr(their, what)
            assert json.dumps(our.summary) == json.dumps(their.summary)
    return sound


def test_copy_of_committed_results_gives_the_same_frame_and_results(some, tmp_path):
    folder = copied(some, tmp_path)
    assert len({result.run.kind for result in same(folder)}) == len(KINDS)
    picked = results_cache.sift(folder)[0][::-2]
    expected = frames.frame(store.sift(folder)[0][::-2])
    pd.testing.assert_frame_equal(results_cache.frame(picked), expected, check_exact=True, check_like=True)


def test_no_file_is_read_that_has_not_changed(folder, monkeypatch):
    same(folder)
    read = []
    monkeypatch.setattr(store, "read", lambda path: read.append(path))
    assert results_cache.sift(folder)[0]
    assert not read


def test_changed_new_and_removed_files_are_noticed(folder):
    first, second, third, *_ = same(folder)
    store.save(replace(first, status="diverged"), folder, replace=True)
    store.save(replace(second, run=replace(second.run, seed=77)), folder)
    store.result_file(folder, third.run).unlink()
    now = {result.id: result for result in same(folder)}
    assert now[first.id].status == "diverged"
    assert replace(second.run, seed=77).id in now
    assert third.id not in now


def test_copy_of_packed_results_is_that_of_files(folder):
    packing.pack_folder(folder)
    first, *_ = same(folder)
    store.save(replace(first, status="diverged"), folder, replace=True)
    assert {result.id: result for result in same(folder)}[first.id].status == "diverged", "the file is newer"
    store.result_file(folder, first.run).unlink()
    assert {result.id: result for result in same(folder)}[first.id].status == first.status, "the line counts again"
    pack = folder / packs.FILE
    pack.write_bytes(pack.read_bytes().replace(b'"seed":0', b'"seed":1', 1))
    [error] = results_cache.sift(folder)[1]
    assert error.place.name.startswith("runs.jsonl:")
    same(folder)
    pack.unlink()
    assert same(folder) == []


def test_pack_that_has_not_changed_is_not_read_again(folder, monkeypatch):
    packing.pack_folder(folder)
    same(folder)
    monkeypatch.setattr(packs, "_known", {})
    monkeypatch.setattr(packs, "_parts", lambda path: pytest.fail("the pack was read"))
    assert results_cache.sift(folder)[0]


def test_damage_is_named_also_where_the_time_of_change_was_set_back(folder):
    first, *_ = same(folder)
    path = store.result_file(folder, first.run)
    stat = path.stat()
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"seed": 0', b'"seed": 1'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert [error.path for error in results_cache.sift(folder)[1]] == [path]
    same(folder)
    path.write_bytes(content)
    same(folder)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-100])])
def test_copy_that_is_gone_or_damaged_is_made_anew(folder, spoil):
    same(folder)
    spoil(results_cache._copy_of(folder))
    same(folder)
    assert results_cache._open_copy(results_cache._copy_of(folder))


def test_no_flipped_bit_of_the_copy_is_loaded(folder):
    same(folder)
    path = results_cache._copy_of(folder)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for place, bit in zip(rng.integers(len(content), size=200), rng.integers(8, size=200), strict=True):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        assert results_cache._open_copy(path) is None
    same(folder)
    assert results_cache._open_copy(path)


def test_verify_does_not_believe_the_copy(tmp_path, monkeypatch):
    folder = tmp_path / "fig1b_convergence_slowdown" / "smoke"
    shutil.copytree(COMMITTED[0].parent.parent / "fig1b_convergence_slowdown" / "smoke", folder)
    monkeypatch.setattr(results_cache, "sift", lambda folder: pytest.fail("the copy was read"))
    [finding] = verification.verify(results=tmp_path)
    assert not finding.wrong


def test_where_no_copy_can_be_kept_results_are_read_all_the_same(folder, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    same(folder)


def test_table_and_status_are_the_same_with_and_without_a_copy(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "fig1b_convergence_slowdown" / "smoke"
    folder.mkdir(parents=True)
    for path in (COMMITTED[0].parent.parent / "fig1b_convergence_slowdown" / "smoke").glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    before = sorted(tmp_path.rglob("*"))
    shown = []
    for large in (1_000_000, 1, 1):
        monkeypatch.setattr(results_cache, "_LARGE", large)
        for verb in ("table", "status"):
            assert main.main([verb, "fig1b", "--results", str(tmp_path)]) == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1
    assert find("fig1b").name in shown[0]
    left = [path for path in sorted(tmp_path.rglob("*")) if not path.is_relative_to(tmp_path / "cache")]
    assert left == before, "nothing is left beside the results"
