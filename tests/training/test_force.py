"""`--force` begins anew, what continues it does not begin finished runs again, and a foreign checkpoint is named."""

from dataclasses import replace

import numpy as np
import pytest

import rethink_gen as rg
from rethink_gen.cli import main
from rethink_gen.errors import Interrupted, StorageError
from rethink_gen.results import locks, store
from rethink_gen.runs import Run
from rethink_gen.study import running
from rethink_gen.training import checkpointing, trainer

RUN = Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=2)


def interrupt(run, folder):
    """Leaves a checkpoint of a run."""

    def stopped():
        raise Interrupted

    with pytest.raises(Interrupted):
        list(trainer.train({run: locks.work_folder(folder, run)}, report=lambda now: None, stopped=stopped))


@pytest.fixture
def work(tmp_path):
    (tmp_path / "train" / ".work").mkdir(parents=True)
    return tmp_path / "train"


@pytest.mark.parametrize("change", ["shape", "missing", "more"])
def test_checkpoint_of_a_changed_network_says_what_differs_and_what_to_remove(change, work):
    """It ended in a KeyError or an error of flax, every time, with --force, too."""
    interrupt(RUN, work)
    folder = locks.work_folder(work, RUN)
    arrays, notes = checkpointing.load_checkpoint(folder)
    name = next(name for name in arrays if "kernel" in name)
    if change == "shape":
        arrays[name] = np.zeros((3, 3), np.float32)
    elif change == "missing":
        del arrays[name]
    else:
        arrays["more"] = np.zeros(2)
    checkpointing.save_checkpoint(folder, arrays, notes)
    with pytest.raises(StorageError, match=r"checkpoint is of another network .*delete that folder .*or give --force"):
        rg.train(RUN, results=work.parent)
    assert rg.train(RUN, results=work.parent, force=True).status == "finished"


def test_force_does_not_continue_from_an_old_checkpoint(work, monkeypatch):
    interrupt(RUN, work)
    loaded = []
    monkeypatch.setattr(checkpointing, "load_checkpoint", lambda folder: loaded.append([*folder.glob("*.npz")]))
    rg.train(RUN, results=work.parent, force=True)
    assert loaded == [[]]


def test_what_continues_a_forced_command_does_not_begin_finished_runs_again(tmp_path, monkeypatch, capsys):
    grid = rg.grid(RUN, seed=range(3))
    rg.run(grid, results=tmp_path)
    folder = tmp_path / "train"
    before = {path.name: path.stat().st_ino for path in folder.glob("*.json")}
    ended = []

    def stop_after_two(now):
        if now.step == now.steps:
            ended.append(now.run)
        if len(ended) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("rethink_gen.training.preparation.width", lambda run: 1)
    monkeypatch.setattr("rethink_gen.execution.scheduler.width", lambda run: 1)
    with pytest.raises(KeyboardInterrupt):
        rg.run(grid, results=tmp_path, force=True, workers=1, report=stop_after_two)
    anew = {path.name for path in folder.glob("*.json") if path.stat().st_ino != before[path.name]}
    assert len(anew) >= 1
    todo = running.to_do(running.plan(grid, results=tmp_path))
    assert {f"{run.id}.json" for run in todo} == before.keys() - anew
    rg.run(grid, results=tmp_path, workers=1)
    assert all(path.stat().st_ino != before[path.name] for path in folder.glob("*.json"))
    assert not running.to_do(running.plan(grid, results=tmp_path)), "now it has ended"
    assert not list(folder.glob("*.conflict"))


def test_command_that_continues_a_forced_one_is_named_without_force(capsys):
    main._say_how_to_continue(["run", "fig1b", "--force", "--seeds", "0..4"])
    assert capsys.readouterr().err.splitlines()[-1] == "rethink-gen run fig1b --seeds 0..4"


def test_run_that_another_process_works_on_keeps_its_checkpoint(work):
    interrupt(RUN, work)
    with locks.claim(work, RUN.id) as ours:
        assert ours
        locks.begin_anew(work, RUN)
    assert list(locks.work_folder(work, RUN).glob("*.npz"))
    assert not locks.is_forced(work, RUN.id)


def test_forced_run_is_not_copied_from_another_experiment(tmp_path):
    result = rg.train(RUN, results=tmp_path)
    store.save(result, tmp_path / "other" / "laptop")
    here = tmp_path / "mine" / "laptop"
    locks.begin_anew(here, RUN)
    assert store.adopt(RUN, here) is None
    assert store.adopt(replace(RUN, seed=1), here) is None, "which has none"
