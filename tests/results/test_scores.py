"""Scores of four examples by hand, how well they find wrong labels, and the file of records."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frames import result
from sklearn.metrics import roc_auc_score

from rethink_gen.errors import StorageError
from rethink_gen.results import kept, scores, store
from rethink_gen.results.records import Records, from_arrays, to_arrays
from rethink_gen.runs import Run


def records(predictions, label=(0, 1, 1, 2), true_label=None, epoch=None, **floats):
    """Records of examples, a row of predictions for each epoch from 0 on."""
    predictions = np.array(predictions, np.uint8)
    label = np.array(label, np.int32)
    true_label = label if true_label is None else np.array(true_label, np.int32)
    epoch = np.arange(len(predictions)) if epoch is None else epoch
    names = ("loss", "margin", "error")
    values = [np.array(floats.get(name, np.zeros(predictions.shape)), np.float16) for name in names]
    return Records(np.asarray(epoch, np.int32), label, true_label, predictions, *values)


# Always right; forgotten once and learned again; right before training alone; learned late and forgotten.
FOUR = records([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 2], [0, 1, 0, 0]])


def test_forgetting_events_by_hand():
    """What is never learned has an event at each epoch; what is right by chance before training does not count."""
    assert scores.forgetting(FOUR).tolist() == [[0, 0, 1, 1], [0, 1, 2, 0], [0, 1, 3, 1]]


def test_first_epoch_learned_by_hand():
    assert scores.first_learned(FOUR).tolist() == [[1, 1, 2, 2], [1, 1, 3, 2], [1, 1, 4, 2]]


def test_consistency_by_hand():
    np.testing.assert_allclose(scores.consistency(FOUR), [[1, 1, 0, 0], [1, 1 / 2, 0, 1 / 2], [1, 2 / 3, 0, 1 / 3]])


def test_means_over_epochs_by_hand():
    made = records([[0], [0], [0]], label=[0], margin=[[9], [1], [-4]], loss=[[9], [0.5], [2.5]])
    assert scores.aum(made).tolist() == [[1], [-1.5]]
    assert scores.mean_loss(made).tolist() == [[0.5], [1.5]]
    assert scores.last_loss(made).tolist() == [[0.5], [2.5]]


def test_el2n_is_the_error_after_a_tenth_of_the_epochs():
    made = records(np.zeros((41, 1)), label=[0], error=np.arange(41)[:, None])
    assert scores.el2n(made)[:, 0].tolist() == [1, 2, 3, *[4] * 37]
    sparse = records(np.zeros((4, 1)), label=[0], error=[[1], [2], [3], [4]], epoch=[0, 1, 9, 40])
    assert scores.el2n(sparse)[:, 0].tolist() == [2, 3, 3], "the first that was measured after epoch 4"


@pytest.mark.parametrize("values", [5, 1000])
def test_auroc_is_that_of_scikit_learn(values):
    """Also with many ties."""
    rng = np.random.default_rng(values)
    suspicion, wrong = rng.integers(values, size=400).astype(np.float32), rng.random(400) < 0.2
    assert scores.auroc(suspicion, wrong) == pytest.approx(roc_auc_score(wrong, suspicion), abs=1e-12)


def test_precision_at_the_noise_rate_by_hand():
    wrong = np.array([True, False, True, False, False])
    assert scores.precision(np.array([5.0, 4, 3, 2, 1]), wrong) == 1 / 2
    assert scores.precision(np.array([5.0, 4, 4, 4, 1]), wrong) == pytest.approx((1 + 1 / 3) / 2), "ties share a place"
    assert scores.precision(np.ones(5), wrong) == pytest.approx(2 / 5)


def test_every_score_points_to_the_wrong_label():
    """One example of five has a wrong label: it is learned last, with the largest loss and the least margin."""
    rights = np.arange(1, 7)[:, None] > np.array([0, 0, 0, 0, 4])
    low = np.where(rights, 1.0, 2.0)
    predictions = np.where(rights, 0, 1)
    made = records(predictions, label=[0] * 5, true_label=[0, 0, 0, 0, 1], loss=low, margin=-low, error=low)
    found = scores.curves(made)
    end = {name: found[f"auroc_{name}"][-1] for name in scores.SCORES}
    assert end == {**dict.fromkeys(scores.SCORES, 1.0), "forgetting": 0.5, "last_loss": 0.5}, "it is fitted at the end"
    assert found["auroc_last_loss"][1:] == [1.0, 1.0, 1.0, 0.5, 0.5]
    assert {values[0] for values in found.values()} == {None}, "epoch 0 is before training"
    assert found["never_forgotten_corrupted"][1:] == [0, 0, 0, 1, 1]


def test_curves_of_labels_that_are_all_true_judge_nothing():
    found = scores.curves(FOUR)
    assert found == {"never_forgotten": [None, 0.5, 0.5, 0.25], "forgetting": [None, 0.5, 0.75, 1.25]}


def test_a_run_that_diverged_at_once_has_no_scores():
    assert scores.curves(records([[0, 1, 1, 0]])) == {"never_forgotten": [None], "forgetting": [None]}
    assert np.isnan(scores.last(records([[0, 1, 1, 0]]))["aum"]).all()


def test_values_that_are_not_finite_give_no_number():
    lost = np.full((2, 4), np.nan)
    found = scores.curves(FOUR._replace(true_label=np.array([0, 1, 1, 3]), loss=np.vstack([lost, lost])))
    assert found["auroc_mean_loss"] == [None] * 4
    assert found["auroc_consistency"][-1] is not None


def test_suggestion_is_the_class_it_is_taken_for_most_often():
    one = records([[0, 0, 0, 0], [0, 2, 0, 1], [0, 2, 0, 1], [0, 1, 0, 3]])
    other = records([[0, 0, 0, 0], [0, 0, 0, 3], [0, 0, 0, 3], [0, 0, 0, 3]])
    assert scores.suggestions([one]).tolist() == [0, 2, 0, 1], "its label, if it was never taken for another"
    assert scores.suggestions([one, other]).tolist() == [0, 0, 0, 3]


def test_records_come_back_as_they_were_saved(tmp_path):
    made = replace(result(Run(record="examples")), records={"train": FOUR, "test": FOUR})
    path = store.save(made, tmp_path)
    found = store.whole(path)
    assert found.provenance["records_sha256"] == kept.checksum(kept.file(path, "records").read_bytes())
    for split in ("train", "test"):
        assert all(map(np.array_equal, found.records[split], FOUR))


def test_arrays_that_are_no_records_are_named():
    arrays = to_arrays({"train": FOUR})
    with pytest.raises(StorageError, match=r"x\.npz: holds no train/loss; delete it"):
        from_arrays({name: array for name, array in arrays.items() if name != "train/loss"}, Path("x.npz"))
    with pytest.raises(StorageError, match=r"x\.npz: its arrays of train do not fit together"):
        from_arrays({**arrays, "train/loss": np.zeros(3)}, Path("x.npz"))


def test_records_travel_with_their_result_and_go_with_it(tmp_path):
    made = replace(result(Run(record="examples")), records={"train": FOUR})
    path = store.save(made, tmp_path / "a" / "laptop")
    copied = store.copy(path, tmp_path / "b" / "laptop")
    assert kept.file(copied, "records").read_bytes() == kept.file(path, "records").read_bytes()
    adopted = store.adopt(made.run, tmp_path / "c" / "laptop")
    assert store.whole(adopted).records is not None
    kept.file(copied, "records").write_bytes(b"PK")
    with pytest.raises(StorageError, match="damaged, or the records of another result"):
        store.copy(copied, tmp_path / "d" / "laptop")
    store.save(replace(made, records=None), tmp_path / "a" / "laptop", replace=True)
    assert not kept.file(path, "records").exists(), "records of an older result do not stay beside a new one"
