"""Many runs: what is measured, what a run leaves behind, and that an interruption leaves no trace."""

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from sweeps import TinyBatchNorm

from rethink_gen import registry
from rethink_gen.data import corruptions, datasets, randomness
from rethink_gen.data.dataset import Split
from rethink_gen.data.pipeline import corrupted
from rethink_gen.errors import Interrupted, UsageError
from rethink_gen.execution import processes, scheduler
from rethink_gen.results import failing, frames, store
from rethink_gen.results.result import METRICS
from rethink_gen.runs import LeastSquaresRun, Run
from rethink_gen.training import checkpointing, compilation, core, measurement, prediction, preparation, trainer
from rethink_gen.training.program import Hparams

SMALL = Run(
    dataset="digits", train_size=200, test_size=100, batch_size=32, epochs=3, model="mlp_1x512",
    corruption="random_labels", corruption_level=0.5,
)  # fmt: skip


def finish(run, **options):
    [outcome] = scheduler.execute([run], **options)
    assert isinstance(outcome, store.Result), outcome
    return outcome


@pytest.fixture(scope="module")
def finished():
    return finish(SMALL)


def test_a_run_has_one_row_per_epoch_and_one_for_its_start(finished):
    assert finished.curves["epoch"] == [0, 1, 2, 3]
    assert finished.curves["step"] == [0, 6, 12, 18]  # 200 // 32 = 6 steps; the last 8 examples are dropped
    assert finished.status == "finished"
    assert finished.curves["running_loss"][0] is None


def test_a_run_is_measured_by_the_metrics_that_results_names(finished):
    assert tuple(finished.curves) == METRICS


def test_training_accuracy_is_that_of_its_two_parts(finished):
    dataset = datasets.load("digits")
    key = randomness.stream(randomness.root_key(0), "corrupt")
    cut = replace(
        dataset, train=dataset.train._replace(images=dataset.train.images[:200], labels=dataset.train.labels[:200])
    )
    noisy = corruptions.random_labels(key, cut, 0.5).train.labels
    changed = (noisy != cut.train.labels).mean()
    curves = {name: np.array(values, float) for name, values in finished.curves.items()}
    whole = changed * curves["train_accuracy_corrupted"] + (1 - changed) * curves["train_accuracy_untouched"]
    np.testing.assert_allclose(whole, curves["train_accuracy"], atol=1e-12)


def test_fates_of_corrupted_examples_are_those_of_its_predictions():
    """Of those whose label was changed: predicted as given, as they truly are, or as another class; by counting."""
    run = replace(SMALL, corruption="random_labels", corruption_level=0.5, epochs=6)
    done = finish(run, keep_weights=True)
    told = prediction.examples(done)
    wrong = told.labels != told.true_labels
    given, true = ((told.predictions == labels)[wrong].mean() for labels in (told.labels, told.true_labels))
    assert 0 < given < 1
    assert 0 < true < 1 - given
    assert done.curves["train_accuracy_corrupted"][-1] == pytest.approx(given)
    assert done.curves["train_recovered"][-1] == pytest.approx(true)
    [row] = frames.frame([done]).query("last").to_dict("records")
    assert row["train_confused"] == pytest.approx(1 - given - true)


def test_a_result_says_what_made_it(finished):
    keys = {"versions", "device", "precision", "commit", "command", "data_sha256", "seconds_compile", "seconds_train"}
    assert keys <= finished.provenance.keys()
    assert finished.provenance["data_sha256"] == datasets.load("digits").checksum
    assert finished.provenance["num_train"] == 200
    assert finished.provenance["num_classes"] == 10
    assert finished.provenance["num_params"] == 8 * 8 * 512 + 512 + 512 * 10 + 10


@pytest.mark.parametrize("model", ["mlp_1x512", "tiny_batch_norm"])
def test_an_interrupted_run_resumes_with_the_numbers_of_an_undisturbed_one(
    model, tmp_path, monkeypatch, tiny_batch_norm
):
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", 4)  # so that an epoch of 6 steps can be stopped in the middle
    loss = "early_learning" if model == "mlp_1x512" else "cross_entropy"  # one that remembers, and one that does not
    run = replace(SMALL, model=model, augmentations=("flip",), weight_decay=1e-3, loss=loss)
    undisturbed = finish(run)

    def stop_after(calls):
        count = 0

        def stopped():
            nonlocal count
            count += 1
            if count == calls:
                raise Interrupted("stopped")

        return stopped

    for calls in (1, 2, 3):
        with pytest.raises(Interrupted):
            next(trainer.train({run: tmp_path}, report=lambda progress: None, stopped=stop_after(calls)))
    resumed = next(trainer.train({run: tmp_path}, report=lambda progress: None, stopped=lambda: None))
    assert resumed.curves == undisturbed.curves


@pytest.fixture
def tiny_batch_norm(monkeypatch):
    """A network with a convolution and batch norm."""
    component = registry.Component("model", "tiny_batch_norm", TinyBatchNorm)
    monkeypatch.setitem(registry.COMPONENTS["model"], "tiny_batch_norm", component)


def test_a_run_that_diverges_is_recorded_as_diverged():
    result = finish(replace(SMALL, learning_rate=1000.0, model="mlp_3x512"))
    assert result.status == "diverged"
    assert result.curves["train_loss"][-1] is None
    assert len(result.curves["epoch"]) < 5


def test_a_run_whose_loss_explodes_but_stays_finite_has_diverged_and_ends():
    result = finish(replace(SMALL, corruption="true_labels", learning_rate=30.0, epochs=12))
    last = result.curves["train_loss"][-3:]
    assert result.status == "diverged"
    assert all(loss is not None and loss > 100 * np.log(10) for loss in last)
    assert len(result.curves["epoch"]) < 13, "it ends then"


@pytest.mark.parametrize(
    ("losses", "while_it_trains", "at_the_end"),
    [
        ([2.3, 1.0, 0.5], False, False),
        ([2.3, 400.0, 400.0, 400.0], True, True),
        ([2.3, 400.0, 400.0, None], True, True),
        ([2.3, 400.0, 400.0], False, True),  # a run of two epochs
        ([2.3, 400.0, 400.0, 200.0], False, False),  # 100 times log 10 is 230
        ([1e8, 7.8, 2.8], False, False),  # at the start batch norm knows no statistics
        ([1e8], False, False),
    ],
)
def test_a_run_has_diverged_when_it_is_far_above_a_constant_guess_for_three_epochs(losses, while_it_trains, at_the_end):
    guess = measurement.constant_guess(preparation.program_of(SMALL, 10, 32))
    assert guess == pytest.approx(np.log(10))
    assert measurement.diverged(losses, guess, ended=False) is while_it_trains
    assert measurement.diverged(losses, guess, ended=True) is at_the_end


def test_measurements_are_spaced_evenly_on_a_logarithmic_axis():
    assert sorted(replace(SMALL, epochs=1000, measurements=4).measured_epochs) == [0, 1, 10, 100, 1000]
    assert sorted(replace(SMALL, epochs=3, measurements=40).measured_epochs) == [0, 1, 2, 3]
    assert list(SMALL.measured_epochs) == [0, 1, 2, 3]


def test_a_run_that_measures_some_epochs_has_the_rows_of_one_that_measures_all(tmp_path):
    """Also if it is interrupted between two measurements."""
    run = replace(SMALL, epochs=8)
    some, every = finish(replace(run, measurements=2)).curves, finish(run).curves
    assert some == {name: [values[i] for i in (0, 1, 8)] for name, values in every.items()}
    seen = []

    def stop_in_epoch_5():
        seen.append(1)
        if len(seen) == 5:
            raise Interrupted("stopped")

    folder = {replace(run, measurements=2): tmp_path}
    with pytest.raises(Interrupted):
        next(trainer.train(folder, report=lambda progress: None, stopped=stop_in_epoch_5))
    epochs = []
    resumed = next(trainer.train(folder, report=lambda now: epochs.append(now.epoch), stopped=lambda: None))
    assert resumed.curves == some
    assert epochs[0] == 5


def test_a_run_stops_at_the_accuracy_it_was_asked_for():
    result = finish(replace(SMALL, epochs=50, stop_at_train_accuracy=0.5, corruption="true_labels"))
    assert result.curves["train_accuracy"][-1] >= 0.5
    assert all(accuracy < 0.5 for accuracy in result.curves["train_accuracy"][:-1])


def test_a_run_that_raises_does_not_stop_the_others(monkeypatch):
    class Broken:
        def __call__(self, **options):
            raise MemoryError("batch too large")

    monkeypatch.setitem(registry.COMPONENTS["model"], "broken", registry.Component("model", "broken", Broken()))
    outcomes = list(scheduler.execute([replace(SMALL, model="broken"), replace(SMALL, epochs=1)]))
    assert [type(outcome).__name__ for outcome in outcomes] == ["Failure", "Result"]
    assert outcomes[0].reason.startswith("out of memory; try fewer examples or a smaller batch")


@pytest.mark.parametrize("field", ["model", "corruption", "augmentations"])
def test_an_unknown_name_is_answered_with_the_known_ones(field):
    run = replace(SMALL, **{field: ("flipp",) if field == "augmentations" else "flipp"})
    with pytest.raises(UsageError, match=r"no .* named 'flipp'"):
        list(scheduler.execute([run]))


def test_test_labels_are_the_true_ones_whatever_the_corruption():
    truth = datasets.load("digits").test.labels
    for name in ("true_labels", "random_labels", "pair_flip", "shuffled_pixels", "random_pixels", "gaussian"):
        _, _, test, *_ = preparation.prepare([Run(dataset="digits", corruption=name)])
        np.testing.assert_array_equal(test.labels, truth)


def test_noisy_test_labels_are_as_noisy_as_those_of_training_and_others_stay_true():
    """Of 297 labels at 0.5 the standard deviation of the share that differs from the true one is 0.029."""
    cohort = [Run(dataset="digits", corruption=name, corruption_level=0.5) for name in ("uniform_wrong", "pair_flip")]
    for run in cohort:
        _, _, test, *_ = preparation.prepare([run])
        assert abs(test.changed.mean() - 0.5) < 4 * 0.029
    flipped = (np.asarray(test.labels) + 1) % 10
    np.testing.assert_array_equal(test.other[test.changed], flipped[test.changed])
    for name in ("true_labels", "shuffled_pixels", "extra_noisy_copies"):
        _, _, test, *_ = preparation.prepare([Run(dataset="digits", corruption=name, corruption_level=0.5)])
        assert not test.changed.any()


def test_test_labels_have_no_part_in_training(finished, monkeypatch):
    dataset = datasets.load("digits")
    shifted = replace(dataset, test=dataset.test._replace(labels=(dataset.test.labels + 1) % 10))
    monkeypatch.setattr(datasets, "load", lambda name: shifted)
    other = finish(SMALL)
    assert other.curves["train_loss"] == finished.curves["train_loss"]
    assert other.curves["weight_norm"] == finished.curves["weight_norm"]
    assert other.curves["test_accuracy"] != finished.curves["test_accuracy"]


def test_equal_seeds_give_equal_runs_and_other_seeds_others(finished):
    assert finish(SMALL).curves == finished.curves
    assert finish(replace(SMALL, seed=1)).curves["train_loss"] != finished.curves["train_loss"]


def test_runs_of_one_program_follow_each_other():
    runs = [replace(SMALL, epochs=1, model=model, seed=seed) for seed in (0, 1) for model in ("mlp_1x512", "mlp_3x512")]
    order = [outcome.run.model for outcome in scheduler.execute(runs)]
    assert order == ["mlp_1x512", "mlp_1x512", "mlp_3x512", "mlp_3x512"]


def test_progress_counts_steps_and_runs():
    seen = []
    list(scheduler.execute([replace(SMALL, epochs=1), replace(SMALL, epochs=1, seed=1)], report=seen.append))
    assert [(p.done_runs, p.step, p.total_runs) for p in seen] == [(0, 0, 2), (0, 6, 2), (1, 0, 2), (1, 6, 2)]
    assert seen[-1].metrics["epoch"] == 1


def test_checkpoints_of_a_state_are_exact():
    program, train, *_ = preparation.prepare([SMALL])
    hparams = Hparams(randomness.root_key(0), 0.1, 0.95, 0.9, 0.0)
    state = core.init(program, hparams, train.images)
    again = checkpointing.restore(jax.tree.map(lambda leaf: leaf * 0, state), checkpointing.flatten(state))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True))


FAULTS = """
import resource, sys
from rethink_gen.execution import machine
if sys.argv[1] == "keep":
    machine.keep_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size = 2**27
begin = faults()
b"." * size
first = faults()
for _ in range(10):
    b"." * size
print(first - begin, faults() - first)
"""


def faults(mode, **environment):
    """Page faults of the first 128 MiB that are asked for, and of ten times 128 more: one per 4 KiB, or per 2 MiB."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GLIBC_", "MALLOC_"))}
    environment = {**clean, "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", FAULTS, mode]
    said = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    return tuple(map(int, said.split()))


only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to do with memory")
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@only_glibc
def test_memory_freed_by_a_step_is_there_for_the_next_unless_the_user_has_set_malloc():
    assert faults("keep")[1] < 100  # else 32,768 each, or 64 where pages are huge
    assert faults("leave")[1] >= 10 * 64
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072")[1] >= 10 * 64


@only_glibc
@pytest.mark.skipif(not HUGE.exists() or "[never]" in HUGE.read_text(), reason="this system has no huge pages")
def test_memory_of_a_step_comes_in_huge_pages():
    """In a quarter of it at most in small ones: memory may be in pieces."""
    assert faults("keep")[0] < 32_768 / 4


def test_examples_held_out_are_the_last_and_are_not_trained_on():
    """The weights are those of a run on the first 150 alone; the held-out part keeps its wrong labels."""
    run = replace(SMALL, validation_size=50)
    with_split = finish(run, keep_weights=True)
    labels = corrupted("digits", "random_labels", level=0.5, train_size=200).train.labels
    registry.add("dataset", "first_150", lambda: _first(150, labels))
    alone = finish(replace(run, dataset="first_150", train_size=None, corruption="true_labels", validation_size=None))
    assert with_split.provenance["num_train"] == alone.provenance["num_train"] == 150
    assert with_split.curves["train_loss"] == alone.curves["train_loss"]
    held_out = prediction.examples(with_split, "validation")
    np.testing.assert_array_equal(held_out.labels, labels[150:])
    assert 0 < (held_out.labels != held_out.true_labels).mean() < 1
    assert with_split.curves["validation_accuracy"][-1] == pytest.approx(held_out.correct.mean())
    assert with_split.curves["validation_loss"][-1] == pytest.approx(held_out.loss.mean(), rel=1e-5)
    best = int(np.argmax(with_split.curves["validation_accuracy"]))
    assert with_split.summary["validated_epoch"] == best
    assert with_split.summary["validated_test_accuracy"] == with_split.curves["test_accuracy"][best]


def _first(count, labels):
    digits = datasets.load("digits")
    train = digits.train._replace(images=digits.train.images[:count], labels=labels[:count])
    return replace(
        digits, name=f"first_{count}", train=train, test=Split(digits.test.images[:100], digits.test.labels[:100])
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"validation_size": 200}, "validation_size=200 leaves nothing of 200 training examples"),
        ({"validation_size": 10, "corruption": "extra_noisy_copies"}, "changes the number of examples"),
        ({"loss": "early_learning", "augmentations": ("mixup",)}, "remembers each example: it does not go with mixing"),
        ({"loss": "early_learning", "order": "with_replacement"}, "it does not go with order with_replacement"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(fields, says):
    with pytest.raises(UsageError, match=says):
        finish(replace(SMALL, **fields))


def test_one_run_that_cannot_be_carried_out_does_not_end_a_sweep():
    """SGD on a linear model that diverged ended all runs after it, every time that the command was given."""
    good = LeastSquaresRun(**LeastSquaresRun.smoke)
    bad = replace(good, learning_rate=30.0)
    too_few = replace(SMALL, validation_size=200)
    outcomes = list(scheduler.execute([bad, good, too_few, SMALL]))
    assert {outcome.run for outcome in outcomes if isinstance(outcome, store.Result)} == {good, SMALL}
    reasons = {outcome.run: outcome.reason for outcome in outcomes if isinstance(outcome, failing.Failure)}
    assert reasons[bad].startswith("SGD diverged: lower the learning_rate")
    assert reasons[too_few].startswith("validation_size=200 leaves nothing")
    with pytest.raises(UsageError, match="SGD diverged"):
        list(scheduler.execute([bad]))


def test_nor_one_that_a_worker_process_has(tmp_path):
    """Each worker is given one run at a time, so it took the run for the only one, and all workers were stopped."""
    small = replace(SMALL, train_size=64, epochs=1)
    failures = processes.finish([replace(small, validation_size=200), small], tmp_path, lambda now: None, processes=2)
    assert [failure.run.validation_size for failure in failures] == [200]
    assert store.result_file(tmp_path, small).exists()
