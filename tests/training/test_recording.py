"""What a run records of its examples: the answers of its network, or which are right; and no other numbers for it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweeps import trained_once

import rethink_gen as rg
from rethink_gen.errors import Interrupted, StorageError, UsageError
from rethink_gen.execution import scheduler
from rethink_gen.models.mlp import MLP
from rethink_gen.results import kept, locks, outcomes, results_cache, store
from rethink_gen.runs import Run
from rethink_gen.study import packing
from rethink_gen.training import core, preparation, trainer, vectorize
from rethink_gen.training.program import Program

RUN = Run(
    dataset="digits", train_size=200, test_size=110, batch_size=32, epochs=3, model="mlp(hidden=16)",
    learning_rate=0.05, corruption="uniform_wrong", corruption_level=0.2, record="examples",
)  # fmt: skip


folder, result = trained_once(RUN)


def test_recording_changes_no_number(result, tmp_path):
    plain = rg.train(replace(RUN, record=()), results=tmp_path)
    assert plain.records is None
    assert {name: result.curves[name] for name in plain.curves} == plain.curves


def test_records_have_the_means_that_curves_have(result):
    assert result.records.keys() == {"train", "test"}
    for split, size in (("train", 200), ("test", 110)):
        records = result.records[split]
        assert records.prediction.shape == (4, size)
        assert records.correct.mean(1).tolist() == pytest.approx(result.curves[f"{split}_accuracy"], abs=1e-7)
        # float16 has 11 bits
        np.testing.assert_allclose(records.loss.mean(1, dtype=float), result.curves[f"{split}_loss"], rtol=2**-11)
    assert result.records["train"].changed.mean() == pytest.approx(0.2, abs=0.1)
    assert not result.records["test"].changed.any()


def test_last_records_are_the_answers_of_the_kept_weights(result):
    for split in ("train", "test"):
        examples, records = result.examples(split), result.records[split]
        assert np.array_equal(records.label, examples.labels)
        assert np.array_equal(records.true_label, examples.true_labels)
        assert np.array_equal(records.prediction[-1], examples.predictions)
        of_label = np.eye(10)[examples.labels]
        logits = examples.logits.astype(float)
        margin = (logits * of_label).sum(1) - (logits - 1e9 * of_label).max(1)
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        expected = {"margin": margin, "error": np.linalg.norm(probabilities - of_label, axis=1), "loss": examples.loss}
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(records, name)[-1], values, rtol=2e-3, atol=2e-4)


def test_an_interrupted_run_leaves_the_same_file(result, folder, tmp_path):
    """It is interrupted after its second epoch, and continues from its checkpoint."""

    def stopped():
        if seen and seen[-1].epoch == 2:
            raise Interrupted

    seen, work = [], locks.work_folder(tmp_path / "train", RUN)
    work.parent.mkdir(parents=True)
    with pytest.raises(Interrupted):
        list(trainer.train({RUN: work}, report=seen.append, stopped=stopped))
    continued = rg.train(RUN, results=tmp_path, keep_weights=True)
    assert continued.curves == result.curves
    paths = [store.result_file(place / "train", RUN) for place in (folder, tmp_path)]
    there, here = (kept.file(path, "records").read_bytes() for path in paths)
    assert there == here


def test_runs_side_by_side_keep_records_of_their_own(monkeypatch):
    """Each has its labels, and the accuracies of its curves, also where one ends before the others."""
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp(hidden=16)": 3}})
    runs = [replace(RUN, seed=seed) for seed in range(2)]
    found = {outcome.run: outcome for outcome in scheduler.execute(runs)}
    assert found[runs[0]].provenance["lanes"] == 3
    labels = [found[run].records["train"].label for run in runs]
    assert not np.array_equal(*labels)
    for run in runs:
        for split in ("train", "test"):
            accuracy = found[run].records[split].correct.mean(1)
            assert accuracy.tolist() == pytest.approx(found[run].curves[f"{split}_accuracy"], abs=1e-7)


def test_bits_of_examples_are_their_records_at_the_end(result, monkeypatch, tmp_path):
    """Of each split, of runs side by side, from the file, from a pack, and from the copy of a large folder."""
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp(hidden=16)": 2}})
    runs = [replace(RUN, record=("correct", *more), seed=seed) for seed, more in ((0, ()), (1, ("examples",)))]
    found = {outcome.run: outcome for outcome in scheduler.execute(runs)}
    for split in ("train", "test"):
        assert np.array_equal(found[runs[0]].is_correct(split), result.records[split].correct[-1])
    assert found[runs[0]].records is None
    expected = found[runs[1]].records["train"].correct[-1]
    place = tmp_path / "train"
    path = store.save(found[runs[1]], place)
    monkeypatch.setattr(results_cache, "_LARGE", 1)
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        [copied] = results_cache.sift(place)[0]
        assert np.array_equal(copied.is_correct(), expected)
        assert np.array_equal(store.read(path).is_correct(), expected)
        packing.pack_folder(place)
    assert not path.exists()
    assert np.array_equal(rg.load("train", results=tmp_path).results[0].is_correct(), expected)


def test_bits_that_are_no_bits_of_the_examples_are_named(result, tmp_path):
    with pytest.raises(UsageError, match=r"has no record of which train examples are correct: Run\(record='correct'\)"):
        result.is_correct()
    for correct, reason in (
        ({"train": "AAAA"}, "correct of train: 3 bytes are not the bits of 200 examples"),
        ({"train": "?"}, "correct of train: "),
        ({"validation": ""}, "correct is of a split 'validation', which the run has not"),
    ):
        path = store.save(replace(result, correct=correct), tmp_path, replace=True)
        with pytest.raises(StorageError, match=reason):
            store.read(path)


def test_examples_that_are_held_out_are_recorded_too(tmp_path):
    made = rg.train(replace(RUN, validation_size=50, epochs=1), results=tmp_path)
    shapes = {split: records.prediction.shape for split, records in made.records.items()}
    assert shapes == {"train": (2, 150), "test": (2, 110), "validation": (2, 50)}
    assert made.records["validation"].correct.mean(1)[-1] == pytest.approx(made.curves["validation_accuracy"][-1])


def test_only_measured_epochs_are_recorded(tmp_path):
    made = rg.train(replace(RUN, measurements=3, epochs=4), results=tmp_path)
    assert made.records["train"].epoch.tolist() == made.curves["epoch"] == [0, 1, 2, 4]


def test_answers_beyond_float16_and_beyond_256_classes():
    program = Program(MLP(300), augmentations=(), crop_size=4, whitening=False, batch_size=2)
    logits = jnp.zeros((2, 300)).at[0, 299].set(1e6)
    answers = jax.device_get(core._answers(program, logits, jnp.array([0, 299])))
    assert (answers.prediction.dtype, answers.prediction.tolist()) == (np.uint16, [299, 0])
    assert answers.loss.tolist() == [65504, pytest.approx(np.log(300), rel=1e-3)]
    assert answers.margin.tolist() == [-65504, 0]
    assert answers.error.tolist() == pytest.approx([2**0.5, (1 - 1 / 300) ** 0.5], rel=1e-3)


def test_what_cannot_be_recorded_is_named():
    with pytest.raises(UsageError, match=r"no record named 'example'; did you mean 'examples'"):
        Run(record="example")
    with pytest.raises(UsageError, match="record must each be named once, got correct,correct"):
        Run(record="correct,correct")
    assert Run(record="correct,examples").id == Run(record="examples,correct").id, "one run, whatever the order"
    streamed = Run(dataset="generated_imagenet", record="examples", train_size=8, test_size=8, batch_size=4)
    with pytest.raises(UsageError, match="generated_imagenet is streamed: examples are recorded in memory only"):
        preparation.prepare([streamed])


SUBSETS = replace(RUN, record="correct", order="subset(share=0.5)", corruption_seed=0)


def test_bits_of_all_examples_with_true_labels_are_not_kept(folder):
    """They would tell nothing: each example was trained on, and none was changed."""
    plain = rg.train(replace(RUN, corruption="true_labels", corruption_level=1.0, record="correct"), results=folder)
    assert plain.correct.keys() == {"train", "test"}
    assert outcomes.of([plain]).seen.all()
    noisy = rg.train(replace(RUN, record="correct"), results=folder)
    assert noisy.correct.keys() == {"train", "test", "changed"}
    np.testing.assert_array_equal(
        outcomes.of([noisy]).changed[0], rg.train(RUN, results=folder).records["train"].changed
    )


def test_a_run_on_a_subset_learns_that_by_heart(folder):
    study = rg.run(rg.grid(replace(SUBSETS, epochs=30), seed=range(4)), results=folder)
    found = outcomes.of(study.results)
    assert (found.seen.sum(1) == 100).all()
    assert (found.changed == found.changed[0]).all()
    assert (found.seen != found.seen[0]).any()
    assert found.train.mean(1).tolist() == pytest.approx(study.runs["train_accuracy"].tolist())
    assert found.train[found.seen].mean() > found.train[~found.seen].mean() + 0.1


def test_an_interrupted_run_remembers_what_it_was_trained_on(folder, tmp_path):
    def stopped():
        if seen and seen[-1].epoch == 2:
            raise Interrupted

    seen, work = [], locks.work_folder(tmp_path / "train", SUBSETS)
    work.parent.mkdir(parents=True)
    with pytest.raises(Interrupted):
        list(trainer.train({SUBSETS: work}, report=seen.append, stopped=stopped))
    resumed = rg.train(SUBSETS, results=tmp_path)
    assert resumed.correct == rg.train(SUBSETS, results=folder).correct


def test_lanes_have_outcomes_of_their_own(folder, monkeypatch):
    runs = rg.grid(SUBSETS, seed=range(2))
    monkeypatch.setattr(vectorize, "width", lambda run: 2)
    monkeypatch.setattr(preparation, "width", lambda run: 2)
    together = list(trainer.train(dict.fromkeys(runs), report=lambda _: None, stopped=lambda: None))
    for result in together:
        alone = rg.train(result.run, results=folder).correct
        assert {"lanes"} <= result.provenance.keys()
        assert result.correct["seen"] == alone["seen"]
