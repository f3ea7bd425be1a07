"""What TensorBoard and Weights & Biases are told of a run is what its result says."""

import struct
from pathlib import Path

import pytest

from rethink_gen.cli import main
from rethink_gen.execution import loggers
from rethink_gen.results import store
from rethink_gen.runs import Run
from rethink_gen.training.progress import Progress

RUN = ["run", "fig1b", "--scale", "smoke", "--only", "model=mlp_1x512", "corruption_level=0.4"]


def progress(run, epoch):
    return Progress(
        run, 3 * epoch, 3 * run.epochs, epoch, {"step": 3 * epoch, "train_loss": 1.0 / (1 + epoch)}, 0, 1, None
    )


def logged(folder: Path) -> dict[tuple[str, int], float]:
    """(metric, step) → value, of the one event file: records of a length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    [path] = folder.rglob("events.*")
    data, values = path.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        values |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        data = data[16 + length :]
    return values


def test_tensorboard_is_told_each_epoch_of_a_run(tmp_path):
    pytest.importorskip("tensorboardX")
    assert main.main([*RUN, "--results", str(tmp_path), "--log", "tensorboard"]) == 0
    [path] = tmp_path.glob("fig1b*/smoke/*.json")
    curves = store.read(path).curves
    found = logged(tmp_path / ".log" / path.parent.parent.name / "smoke" / path.stem)
    for metric in ("train_loss", "test_accuracy"):
        expected = dict(zip(curves["step"], curves[metric], strict=True))
        assert {step: value for (name, step), value in found.items() if name == metric} == pytest.approx(expected)
    assert main.main(["verify", "fig1b", "--results", str(tmp_path)]) == 0


def test_train_tells_tensorboard_of_each_seed(tmp_path):
    pytest.importorskip("tensorboardX")
    words = [
        "--dataset",
        "digits",
        "--train-size",
        "64",
        "--test-size",
        "50",
        "--batch-size",
        "32",
        "--epochs",
        "2",
        "--log",
        "tensorboard",
    ]
    for seeds in ([], ["--seeds", "1,2"]):
        assert main.main(["train", *words, *seeds, "--results", str(tmp_path)]) == 0
    results = store.load(tmp_path / "train")
    assert len(results) == 3
    for result in results:
        found = logged(tmp_path / ".log" / "train" / result.id)
        assert {step for name, step in found if name == "test_loss"} == set(result.curves["step"])


def test_runs_that_train_side_by_side_lose_no_point(tmp_path):
    """Their reports arrive mixed, as from worker processes; a run that stops early sends no last step."""
    pytest.importorskip("tensorboardX")
    runs = [Run(seed=seed, epochs=20) for seed in range(3)]
    lengths = [20, 20, 7]
    with loggers.tracker("tensorboard", tmp_path) as report:
        for epoch in range(21):
            for run, length in zip(runs, lengths, strict=True):
                for _ in range(2 if epoch <= length else 0):  # an epoch has many calls of the device
                    report(progress(run, epoch))
    for run, length in zip(runs, lengths, strict=True):
        expected = {("train_loss", 3 * epoch): 1 / (1 + epoch) for epoch in range(length + 1)}
        assert logged(tmp_path / run.id) == pytest.approx(expected)


def test_logs_are_open_until_their_run_ends_and_not_too_many(tmp_path, monkeypatch):
    opened, most = [], []

    def begin(run, folder):
        opened.append(run.seed)
        most.append(len(opened))
        return lambda step, metrics: None if metrics else opened.remove(run.seed)

    monkeypatch.setattr(loggers, "_OPEN", 3)
    monkeypatch.setitem(loggers._TRACKERS, "tensorboard", ("json", begin))
    with loggers.tracker("tensorboard", tmp_path) as report:
        for epoch in range(3):
            for seed in range(2):
                report(progress(Run(seed=seed, epochs=2), epoch))
        assert opened == []
        for seed in range(2, 10):
            report(progress(Run(seed=seed, epochs=2), 0))
        assert opened == [7, 8, 9]
    assert opened == []
    assert max(most) == 4


@pytest.mark.slow
def test_weights_and_biases_has_one_session_for_each_of_the_runs_side_by_side(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs = [Run(seed=seed, epochs=3) for seed in range(3)]
    with loggers.tracker("wandb", tmp_path) as report:
        for epoch in range(4):
            for run in runs:
                report(progress(run, epoch))
    assert sorted(path.name for path in tmp_path.rglob("*.wandb")) == sorted(f"run-{run.id}.wandb" for run in runs)


@pytest.mark.slow
def test_weights_and_biases_is_told_of_a_run_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main.main([*RUN, "--results", str(tmp_path), "--log", "wandb"]) == 0
    [path] = tmp_path.glob("fig1b*/smoke/*.json")
    [log] = (tmp_path / ".log").rglob("*.wandb")
    assert path.stem in log.name
    assert b"test_accuracy" in log.read_bytes()
    assert main.main(["verify", "fig1b", "--results", str(tmp_path)]) == 0


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(loggers._TRACKERS, "wandb", ("no_such_package", loggers._weights_and_biases))
    assert main.main([*RUN, "--results", str(tmp_path), "--log", "wandb"]) == 2
    assert "--log wandb needs no_such_package: pip install no_such_package" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_an_unknown_tracker_is_an_error(tmp_path, capsys):
    assert main.main([*RUN, "--results", str(tmp_path), "--log", "tensorbord"]) == 2
    assert "did you mean 'tensorboard'" in capsys.readouterr().err
