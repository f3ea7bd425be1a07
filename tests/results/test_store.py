"""One run, one file: complete or absent, checked when read, and a tidy frame of many."""

import contextlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from rethink_gen import atomic
from rethink_gen.errors import StorageError
from rethink_gen.results import frames, locks, store
from rethink_gen.results.result import same_end
from rethink_gen.runs import Run
from rethink_gen.training import checkpointing

RUN = Run(dataset="digits", corruption="random_labels", corruption_level=0.5, seed=3)


def example(run=RUN, train=(0.1, 0.5, 0.99, 1.0), test=(0.1, 0.4, 0.35, 0.3), status="finished"):
    n = len(train)
    curves = {
        "epoch": list(range(n)),
        "step": [10 * i for i in range(n)],
        "train_loss": [2.3 - 0.5 * i for i in range(n)],
        "train_accuracy": list(train),
        "train_accuracy_corrupted": [None] * n,
        "test_loss": [2.3] * n,
        "test_accuracy": list(test),
    }
    return store.Result(run, status, curves, {"device": "cpu", "num_train": 100, "num_test": 50, "seconds_train": 1.5})


def test_a_result_read_back_is_the_one_saved(tmp_path):
    result = example()
    path = store.save(result, tmp_path)
    assert path.name == f"{RUN.id}.json"
    assert store.read(path) == result
    assert store.load(tmp_path) == [result]


def test_summary_is_that_of_the_curves():
    summary = example().summary
    assert summary["epochs_to_fit"] == 2  # the first epoch at 99 %
    assert summary["steps_to_fit"] == 20
    assert summary["best_epoch"] == 1
    assert summary["best_test_accuracy"] == 0.4
    assert summary["generalization_gap"] == pytest.approx(1.0 - 0.3)


def test_test_accuracy_of_zero_has_a_generalization_gap():
    assert example(test=(0.1, 0.4, 0.3, 0.0)).summary["generalization_gap"] == 1.0


def test_a_run_that_never_fits_is_censored_not_zero():
    summary = example(train=(0.1, 0.5, 0.6, 0.989)).summary
    assert summary["epochs_to_fit"] is None
    assert summary["steps_to_fit"] is None
    assert math.isnan(frames.frame([example(train=(0.1, 0.5, 0.6, 0.989))])["steps_to_fit"].iloc[0])


def test_a_file_holds_strict_json_also_of_a_diverged_run(tmp_path):
    diverged = example(train=(0.1, 0.2, 0.1, None), test=(0.1, 0.1, 0.1, math.nan), status="diverged")
    text = store.save(diverged, tmp_path).read_text()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(text, parse_constant=refuse)["status"] == "diverged"


def test_every_flipped_bit_is_noticed(tmp_path):
    path = store.save(example(), tmp_path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for position, bit in zip(rng.integers(0, len(content), 100), rng.integers(0, 8, 100), strict=True):
        flipped = bytearray(content)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        with contextlib.suppress(StorageError):
            assert store.read(path) == example()  # a flip in white space changes nothing


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}'])
def test_what_is_no_result_is_named(tmp_path, content):
    path = tmp_path / f"{RUN.id}.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=RUN.id):
        store.read(path)


def test_a_result_under_another_runs_name_is_refused(tmp_path):
    path = store.save(example(), tmp_path)
    other = path.rename(tmp_path / f"{replace(RUN, seed=4).id}.json")
    with pytest.raises(StorageError, match="but its name says otherwise"):
        store.read(other)


def test_a_later_schema_is_refused(tmp_path):
    path = store.save(example(), tmp_path)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(StorageError, match=r"has the schema 2, which .* does not know; to read it, install"):
        store.read(path)


def test_each_curve_stands_on_one_line(tmp_path):
    lines = store.save(example(), tmp_path).read_text().splitlines()
    assert sum('"train_loss": [' in line and line.rstrip(",").endswith("]") for line in lines) == 1


def test_frame_has_a_row_per_run_and_epoch():
    other = example(replace(RUN, corruption="true_labels", augmentations=("flip", "rotation")))
    frame = frames.frame([example(), other])
    assert len(frame) == 8
    assert frame["last"].sum() == 2
    assert set(frame[frame["last"]]["epoch"]) == {3}
    true = frame[frame["corruption"] == "true_labels"]
    assert set(true["corruption_level"]) == {0.0}
    assert set(true["augmentations"]) == {"flip+rotation"}
    np.testing.assert_allclose(frame["test_error"], 1 - frame["test_accuracy"])
    np.testing.assert_allclose(frame["generalization_gap"], frame["train_accuracy"] - frame["test_accuracy"])
    assert frame["train_accuracy_corrupted"].isna().all()


def test_a_sweep_over_an_option_has_the_default_value_in_its_column():
    """mlp(hidden=512) is mlp_1x512, and example(...) spells no option that has its default."""
    widths = [replace(example(), run=replace(example().run, model=f"mlp(hidden={width})")) for width in (256, 512)]
    copies = [
        replace(example(), run=replace(example().run, corruption=f"extra_noisy_copies(alpha={alpha})"))
        for alpha in (0, 1)
    ]
    found = frames.frame([*widths, *copies]).query("last")
    assert list(found["model.hidden"][:2]) == [256, 512]
    assert list(found["corruption.alpha"][2:]) == [0, 1]


def test_frame_of_nothing_is_empty():
    nothing, something = frames.frame([]), frames.frame([example()])
    assert len(nothing) == 0
    assert set(something.columns) <= set(nothing.columns)


def test_a_run_that_a_sibling_has_is_copied(tmp_path):
    store.save(example(), tmp_path / "fig1b" / "smoke")
    here = tmp_path / "fig1c" / "smoke"
    copied = store.adopt(RUN, here)
    assert copied == here / f"{RUN.id}.json"
    assert store.load(here) == [example()]
    assert store.adopt(replace(RUN, seed=9), here) is None
    assert store.adopt(RUN, tmp_path / "fig1c" / "paper") is None  # another scale


def test_a_checkpoint_is_read_back_and_two_are_kept(tmp_path):
    for i in range(4):
        checkpointing.save_checkpoint(tmp_path, {"w": np.full(3, i, np.float32)}, {"epoch": i})
    assert len(list(tmp_path.glob("checkpoint-*.npz"))) == 2
    arrays, notes = checkpointing.load_checkpoint(tmp_path)
    np.testing.assert_array_equal(arrays["w"], [3, 3, 3])
    assert notes == {"epoch": 3}


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path):
    for i in range(2):
        checkpointing.save_checkpoint(tmp_path, {"w": np.full(300, i, np.float32)}, {"epoch": i})
    newest = sorted(tmp_path.glob("checkpoint-*.npz"))[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 3] ^= 1
    newest.write_bytes(content)
    assert checkpointing.load_checkpoint(tmp_path)[1] == {"epoch": 0}
    assert newest.with_suffix(".corrupt").exists()


def test_no_checkpoint_is_no_error(tmp_path):
    assert checkpointing.load_checkpoint(tmp_path) is None


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("before")
    with pytest.raises(StorageError, match="file/below"):
        atomic.write(tmp_path / "file" / "below", b"after")
    assert (tmp_path / "file").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_is_running_while_a_process_is_at_it(tmp_path):
    assert locks.running(tmp_path) == []
    with locks.claim(tmp_path, "one"), locks.claim(tmp_path, "two"):
        assert locks.running(tmp_path) == ["one", "two"]
    assert locks.running(tmp_path) == []


def test_results_that_measure_more_than_older_ones_are_the_same(tmp_path):
    """A version that measures another metric would otherwise find every older result wrong."""
    older, newer = example(), example()
    newer = replace(newer, curves={**newer.curves, "train_recovered": [None, 0.5, 0.5, 0.5]})
    assert same_end(older, newer)
    assert not same_end(replace(older, status="diverged"), newer)
    assert not same_end(older, replace(newer, curves={**newer.curves, "test_loss": [0.0] * 4}))
    with_bits = replace(older, correct={"train": "gA=="})
    assert same_end(with_bits, replace(newer, correct={"train": "gA==", "seen": "gA=="}))
    assert not same_end(with_bits, replace(newer, correct={"train": "QA=="})), "other examples are right"
    store.save(older, tmp_path)
    assert store.save(newer, tmp_path).suffix == ".json"
    assert not [*tmp_path.glob("*.conflict")]
