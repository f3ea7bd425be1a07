"""Failed runs, damaged files, full disks, exit codes: what is wrong is named, and nothing is lost."""

import json
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import small_disk
from sweeps import SMALL, flips, last_line, result, train

import rethink_gen as rg
from rethink_gen import atomic, registry
from rethink_gen.cli import main
from rethink_gen.errors import StorageError
from rethink_gen.execution import scheduler
from rethink_gen.models import mlp
from rethink_gen.results import store
from rethink_gen.training import checkpointing, preparation, trainer


def test_run_that_fails_is_recorded_and_tried_again_by_the_same_command(places, options, monkeypatch, capsys):
    line = ["run", "labels", *options]
    real = preparation.prepare

    def broken(cohort):
        if cohort[0].corruption == "random_labels":
            raise RuntimeError("no luck")
        return real(cohort)

    monkeypatch.setattr(preparation, "prepare", broken)
    assert main.main(line) == 1
    assert "RuntimeError: no luck (test_faults.py, line" in last_line(capsys)
    folder = places["results"] / "labels" / "laptop"
    assert [path.read_text() for path in folder.glob("*.failed")] != []
    assert len(store.load(folder)) == 1
    assert main.main(["status", "labels", "--json", *options]) == 0
    assert [row["failed"] for row in json.loads(capsys.readouterr().out)] == [0, 1, 0]
    assert "1 of 2 runs done, 1 failed." in (folder / "table.md").read_text()
    monkeypatch.undo()
    assert main.main(line) == 0
    assert not list(folder.glob("*.failed"))
    assert len(store.load(folder)) == 2


def test_diverged_run_is_an_error_only_where_that_is_asked_for(sweep, options, capsys):
    path = max(sweep.glob("*.json"))
    diverged = store.read(path)
    store.save(replace(diverged, status="diverged"), sweep, replace=True)
    line = ["run", "labels", *options]
    assert main.main(line) == 0
    assert main.main([*line, "--strict"]) == 1
    assert last_line(capsys) == f"rethink-gen: error: 1 of 2 runs diverged, the first is {path.stem}"
    other = min(sweep.glob("*.json"))
    assert main.main([*line, "--strict", "--only", f"corruption={store.read(other).run.corruption}"]) == 0


def test_out_of_memory_is_the_runs_own_trouble(monkeypatch):
    class Vast(mlp.MLP):
        def __post_init__(self):
            object.__setattr__(self, "hidden", (1 << 40,))
            super().__post_init__()

    monkeypatch.setitem(registry.COMPONENTS["model"], "vast", registry.Component("model", "vast", Vast))
    failed, finished = scheduler.execute([replace(SMALL, model="vast"), replace(SMALL, epochs=1)])
    assert failed.reason.startswith("out of memory; try fewer examples or a smaller batch")
    assert finished.status == "finished"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how large a process is")
def test_run_for_which_there_is_no_memory_fails_alone():
    """Of a process that may grow by 2 GiB. What XLA cannot have for its compiler ends the process instead: a death."""
    code = textwrap.dedent(
        r"""
        import re, resource
        from pathlib import Path
        from rethink_gen import registry
        from rethink_gen.execution import scheduler
        from rethink_gen.models import mlp
        from rethink_gen import grid, Run
        make = lambda **options: mlp.MLP(hidden=(1 << 27,), **options)  # 32 GiB
        registry.COMPONENTS["model"]["vast"] = registry.Component("model", "vast", make)
        run = Run(dataset="digits", train_size=96, test_size=50, batch_size=32, epochs=1, model="mlp_1x512")
        next(scheduler.execute([run]))
        size = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
        resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 30),) * 2)
        for outcome in scheduler.execute(grid(run, model=("vast", "mlp_1x512"))):
            print(getattr(outcome, "reason", "finished"))
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    failed, other = done.stdout.splitlines()
    assert failed.startswith("out of memory; try fewer examples or a smaller batch")
    assert other == "finished"


def test_no_flipped_bit_of_a_result_is_loaded_silently(sweep):
    """200 flips: noticed, or in white space, where it changes nothing."""
    loaded = 0
    for path in sorted(sweep.glob("*.json")):
        right = store.read(path)
        for content in flips(path.read_bytes(), 100):
            path.write_bytes(content)
            sound, damaged = store.sift(sweep)
            assert len(sound) + len(damaged) == 2
            loaded += sum(r.run == right.run and r != right for r in sound)
        path.write_bytes(path.read_bytes()[:-1])
    assert loaded == 0


def test_no_flipped_bit_of_a_checkpoint_is_loaded_silently(tmp_path):
    state = {"params": np.arange(300, dtype=np.float32), "momentum": np.ones((7, 5), np.float32), "step": np.int32(7)}
    for number in range(2):
        checkpointing.save_checkpoint(
            tmp_path, {**state, "step": np.int32(number)}, {"epoch": number, "curves": [0.5] * 40}
        )
    older, newer = sorted(tmp_path.glob("*.npz"))
    content, used = newer.read_bytes(), Counter()
    for flipped in flips(content, 200):
        newer.write_bytes(flipped)
        arrays, notes = checkpointing.load_checkpoint(tmp_path)
        assert notes == {"epoch": notes["epoch"], "curves": [0.5] * 40}
        assert arrays["step"] == notes["epoch"]
        assert all(np.array_equal(arrays[name], state[name]) for name in ("params", "momentum"))
        used["older" if notes["epoch"] == 0 else "newer"] += 1
        assert newer.with_suffix(".corrupt").exists() == (notes["epoch"] == 0)
        newer.with_suffix(".corrupt").unlink(missing_ok=True)
    assert used["older"] > 150
    for length in np.linspace(0, len(content) - 1, 20).astype(int):
        newer.write_bytes(content[:length])
        assert checkpointing.load_checkpoint(tmp_path)[1]["epoch"] == 0
    assert older.exists()


def test_damaged_result_is_named_and_left_out_until_it_is_removed(sweep, options, capsys):
    path = max(sweep.glob("*.json"))
    sound, right = min(sweep.glob("*.json")), path.read_bytes()
    path.write_bytes(b"")
    before = sound.read_bytes()
    for verb in ("run", "table"):
        assert main.main([verb, "labels", *options]) == 1
        out, error = capsys.readouterr()
        assert f"1 of 2 runs done. {path.name} is damaged and left out." in out
        assert error.splitlines()[-1].startswith(f"rethink-gen: error: 1 damaged, the first is {path}: ")
        assert error.splitlines()[-1].endswith("delete it and run again")
    path.unlink()
    assert main.main(["run", "labels", *options]) == 0
    assert sound.read_bytes() == before
    assert store.read(path).curves == json.loads(right)["curves"]


def test_result_of_a_later_version_is_refused(sweep, options, capsys):
    path = max(sweep.glob("*.json"))
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    assert main.main(["table", "labels", *options]) == 1
    out, error = capsys.readouterr()
    assert f"1 of 2 runs done. {path.name} is damaged and left out." in out
    assert f"{path}: has the schema 2, which rethink-gen {rg.__version__} does not know" in error


def test_result_with_a_field_that_is_not_known_is_damaged(tmp_path):
    path = store.save(result(), tmp_path)
    path.write_text(path.read_text().replace('"momentum"', '"momentun"'))
    assert [error.path for error in store.sift(tmp_path)[1]] == [path]


def test_checkpoint_of_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    train(SMALL, tmp_path)
    arrays, notes = checkpointing.load_checkpoint(tmp_path)
    notes["made_by"]["jax"] = "0.4.1"
    checkpointing.save_checkpoint(tmp_path, arrays, notes)
    with pytest.raises(StorageError, match=rf"jax 0.4.1, here {jax.__version__}.*delete that folder"):
        train(SMALL, tmp_path)
    with pytest.raises(StorageError, match=SMALL.id):
        train(replace(SMALL, seed=9), tmp_path)


def test_checkpoint_of_a_version_with_other_names_of_arrays_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    train(SMALL, tmp_path)
    arrays, notes = checkpointing.load_checkpoint(tmp_path)
    checkpointing.save_checkpoint(tmp_path, {f".{name}": array for name, array in arrays.items()}, notes)
    with pytest.raises(StorageError, match=f"{tmp_path}: .*another version of rethink-gen; delete it"):
        train(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("fact", "then", "line"),
    [
        ("device", "cpu (7 cores)", r"device cpu \(7 cores\), here cpu.*continue with NPROC=7, or delete"),
        ("flags", "XLA_FLAGS=--xla_cpu_enable_fast_math=true", "flags XLA_FLAGS=.*, here none; continue there, or"),
        ("package", "0123456789ab", "package 0123456789ab, here [0-9a-f]{12}; continue there, or delete"),
    ],
)
def test_checkpoint_of_other_cores_flags_or_code_is_refused(fact, then, line, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    train(SMALL, tmp_path)
    arrays, notes = checkpointing.load_checkpoint(tmp_path)
    assert notes["made_by"][fact] != then
    notes["made_by"][fact] = then
    checkpointing.save_checkpoint(tmp_path, arrays, notes)
    with pytest.raises(StorageError, match=line):
        train(SMALL, tmp_path)


def test_flags_that_change_the_arithmetic_are_in_the_result_and_no_others(tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert "flags" not in train(SMALL, tmp_path).provenance
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with jax.default_matmul_precision("bfloat16"):
        found = train(SMALL, tmp_path).provenance["flags"]
    expected = {"jax_default_matmul_precision": "bfloat16", "XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}
    assert found == expected


def test_folder_that_vanishes_stops_the_sweep_and_is_not_made_anew(places, options, capsys, monkeypatch):
    real = preparation.prepare

    def vanish(cohort):
        shutil.rmtree(places["results"])
        return real(cohort)

    monkeypatch.setattr(preparation, "prepare", vanish)
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    assert main.main(["run", "labels", *options]) == 4
    assert str(places["results"]) in last_line(capsys)
    assert not places["results"].exists()


def test_disk_that_takes_no_more_is_named_and_nothing_half_written_stays(tmp_path):
    path = tmp_path / "file"
    atomic.write(path, b"before")
    with small_disk(), pytest.raises(StorageError, match="file: cannot be written"):
        atomic.write(path, bytes(100_000))  # a real refusal, after a write in part
    assert path.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_disk_that_takes_no_more_stops_the_sweep_at_once(sweep, options, capsys, monkeypatch):
    """It does not fail one run after the other; here a file stands where checkpoints belong."""
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    for path in sweep.glob("*.json"):
        path.unlink()
        (sweep / ".work" / path.stem).touch()
    assert main.main(["run", "labels", *options]) == 4
    assert str(sweep / ".work") in last_line(capsys)
    assert not list(sweep.glob("*.failed"))


def test_each_exit_code_is_as_documented(places, options, sweep, capsys, monkeypatch, own_data):
    """75 and 130: test_cli.py::test_stopped_command_names_the_one_that_continues."""
    assert main.main(["run", "labels", *options]) == 0
    assert main.main(["run", "labells", *options]) == 2
    assert main.main(["train", "--dataset", "cifar10", *options[:2]]) == 3
    (places["results"] / "train").write_text("in the way")
    assert main.main(["train", "--dataset", "digits", *options[:2]]) == 4
    max(sweep.glob("*.json")).write_bytes(b"{")
    assert main.main(["run", "labels", *options]) == 1
    assert "Traceback" not in capsys.readouterr().err
