"""A run that records its weights keeps those of each measured epoch, and no other number is another one for it."""

from dataclasses import replace

import numpy as np
import pytest
from sweeps import trained_once

import rethink_gen as rg
from rethink_gen.errors import Interrupted, StorageError, UsageError
from rethink_gen.execution import scheduler
from rethink_gen.results import kept, locks, store
from rethink_gen.runs import Run
from rethink_gen.study import packing
from rethink_gen.training import recording, trainer, vectorize

RUN = Run(
    dataset="digits", train_size=100, test_size=50, batch_size=32, epochs=4, model="mlp(hidden=8)",
    learning_rate=0.05, measurements=3, record="weights",
)  # fmt: skip
KERNEL = "params/Dense_0/kernel"


folder, result = trained_once(RUN)


def test_weights_of_measured_epochs_are_there_and_the_last_are_those_that_were_kept(result, folder):
    assert [*result.weights_at] == result.curves["epoch"] == [0, 1, 2, 4]
    assert result.records is None
    for found in (result.weights_at, rg.load("train", results=folder).weights()):
        assert found[4].keys() == result.weights.keys()
        assert all(np.array_equal(found[4][name], result.weights[name]) for name in result.weights)
        assert found[2][KERNEL].shape == (64, 8)
        assert not np.array_equal(found[1][KERNEL], found[2][KERNEL])


def test_network_of_an_epoch_is_asked_as_it_was_then(result, tmp_path):
    """Its measures are those that a run records while it trains; and its accuracies are those of the curves."""
    measured = replace(RUN, measures="distance_from_initial,margin", record="measures")
    then = rg.train(measured, results=tmp_path)
    for i, epoch in enumerate(result.weights_at):
        at = result.at(epoch)
        assert at.measure(*measured.measures) == {name: then.curves[name][i] for name in measured.measures}
        assert at.examples("test").correct.mean() == pytest.approx(result.curves["test_accuracy"][i], abs=1e-7)
    assert {name: result.curves[name] for name in result.curves} == {name: then.curves[name] for name in result.curves}


def test_an_interrupted_run_leaves_the_same_file(folder, tmp_path):
    def stopped():
        if seen and seen[-1].epoch == 2:
            raise Interrupted

    seen, work = [], locks.work_folder(tmp_path / "train", RUN)
    work.parent.mkdir(parents=True)
    with pytest.raises(Interrupted):
        list(trainer.train({RUN: work}, report=seen.append, stopped=stopped))
    rg.train(RUN, results=tmp_path)
    paths = [store.result_file(place / "train", RUN) for place in (folder, tmp_path)]
    there, here = (kept.file(path, "records").read_bytes() for path in paths)
    assert there == here


def test_runs_side_by_side_record_weights_of_their_own_beside_examples(monkeypatch, tmp_path):
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp(hidden=8)": 2}})
    runs = [replace(RUN, record="weights,examples", seed=seed) for seed in range(2)]
    for outcome in scheduler.execute(runs, keep_weights=True):
        assert outcome.provenance["lanes"] == 2
        again = store.whole(store.save(outcome, tmp_path))
        assert np.array_equal(again.weights_at[4][KERNEL], outcome.weights[KERNEL])
        accuracy = again.records["train"].correct.mean(1).tolist()
        assert accuracy == pytest.approx(outcome.curves["train_accuracy"], abs=1e-7)


def test_weights_that_are_not_there_are_named(result, folder, tmp_path):
    with pytest.raises(UsageError, match="has the weights of epochs 0, 1, 2, 4, not of 3; see measurements"):
        result.at(3)
    with pytest.raises(UsageError, match=r"no record of its weights: Run\(record='weights'\)"):
        replace(result, weights_at=None).at(0)
    plain = rg.train(replace(RUN, record=()), results=tmp_path)
    with pytest.raises(UsageError, match="no run here has records of its weights; train runs that record weights"):
        rg.load("train", results=tmp_path).weights()
    with pytest.raises(UsageError, match="no run that recorded its weights named"):
        rg.load("train", results=folder).weights(plain.id)


def test_a_damaged_or_odd_file_of_weights_is_named(result, tmp_path):
    path = store.save(result, tmp_path)
    packing.pack_folder(tmp_path)  # the file stays beside the pack
    file = kept.file(path, "records")
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with pytest.raises(StorageError, match="damaged, or the records of another result"):
        store.whole(path)
    arrays = kept.unpack(content, file)
    for odd in ({**arrays, "weights/epoch": np.arange(3)}, {KERNEL: 0, "weights/x": np.zeros(4)}):
        with pytest.raises(StorageError, match="its arrays of weights do not fit together"):
            store.weights_from_arrays(odd, file)


def test_more_weights_than_memory_should_hold_are_refused_before_training(monkeypatch, tmp_path):
    monkeypatch.setattr(recording, "_MOST_BYTES", 4 * 610 * 4 - 1)  # 4 epochs of 64 * 8 + 8 + 8 * 10 + 10 numbers
    with pytest.raises(UsageError, match=r"record=weights of 4 epochs would take 0.0 GB, .* set fewer measurements"):
        rg.train(RUN, results=tmp_path)
    assert rg.train(replace(RUN, measurements=2), results=tmp_path).weights_at.keys() == {0, 1, 4}
