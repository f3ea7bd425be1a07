"""What `rethink-gen doctor` says of a machine that is well, and of one that is not."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from rethink_gen import memory
from rethink_gen.cli import doctor
from rethink_gen.cli.main import main
from rethink_gen.data import datasets
from rethink_gen.execution import machine


@pytest.fixture(autouse=True)
def well(tmp_path, monkeypatch):
    """A machine on which nothing is wrong, whatever this one is."""
    monkeypatch.setattr(doctor, "_data", lambda: doctor.Finding("data sets: digits", []))
    monkeypatch.setattr(memory, "free", lambda: 8 * 10**9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("", (), {"free": 10**11}))
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", tmp_path / "driver")


NO_EXPERIMENTS = Path(__file__).parents[1] / "golden"  # reading those of the package takes a second


def wrong(results="results", experiments=NO_EXPERIMENTS) -> list[str]:
    found = doctor.examine(results=results, experiments=experiments)
    return [line for finding in found for line in finding.wrong]


def test_nothing_is_wrong_with_a_machine_that_is_well(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all(line.startswith("right  ") for line in lines)
    assert f"jax {metadata.version('jax')}," in lines[0]


def test_a_version_that_was_not_tested_is_wrong(monkeypatch):
    found = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "99.0" if name == "flax" else found(name))
    [line] = wrong()
    assert line.startswith("flax 99.0 is not one that was tested: pip install 'flax")


def test_a_package_that_is_missing_is_wrong(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["no-such-thing>=2", 'other; extra == "dev"'])
    assert wrong() == ["no-such-thing is not installed: pip install 'no-such-thing>=2'"]


@pytest.mark.parametrize(("driver", "extra"), [("570.86.15", "cuda12"), ("580.65.06", "cuda13")])
def test_a_gpu_that_jax_does_not_see_is_wrong(driver, extra):
    machine.NVIDIA_DRIVER.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Sun Jul 20\n")
    assert wrong() == [f"there is an NVIDIA driver, and jax has no GPU: pip install 'jax[{extra}]'"]


def test_an_experiment_that_cannot_be_read_is_wrong(tmp_path):
    (tmp_path / "mine.py").write_text("EXPERIMENT = 1 / 0\n")
    [line] = wrong(experiments=tmp_path)
    assert "mine.py" in line


def test_cifar10_that_is_missing_is_wrong(monkeypatch):
    monkeypatch.setattr(doctor, "_data", DATA)
    monkeypatch.setattr(datasets, "present", lambda: [datasets._source_of(datasets.bundled.digits())])
    assert wrong() == ["CIFAR-10 is not here: rethink-gen data prepare cifar10"]


def test_little_memory_is_wrong(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 10**9)
    assert wrong() == ["1.0 GB of memory are free: choose a smaller scale, or train_size"]


def test_a_compile_cache_that_others_may_write_is_wrong(tmp_path):
    compiled = datasets.cache_folder() / "compiled"
    compiled.mkdir(parents=True)
    compiled.chmod(0o777)
    assert wrong() == [f"others may write {compiled}, so it is not used: chmod 700 it, or remove it"]


def test_a_file_where_results_belong_is_wrong(tmp_path):
    (tmp_path / "results").touch()
    assert wrong(tmp_path / "results") == [f"{tmp_path / 'results'} takes no files: choose another folder for results"]


def test_a_full_disk_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("", (), {"free": 5 * 10**8}))
    assert wrong(tmp_path)[0] == f"0.5 GB are free for results in {tmp_path}: make room"


DATA = doctor._data


def run_without_a_gpu(*line, platforms="cuda"):
    """A command where JAX_PLATFORMS asks for what is not there."""
    return subprocess.run(
        [sys.executable, "-m", "rethink_gen", *line],
        env={**os.environ, "JAX_PLATFORMS": platforms}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.skipif(machine.NVIDIA_DRIVER.exists(), reason="this machine has a GPU")
def test_a_platform_without_a_device_says_what_is_there_and_what_to_install(tmp_path):
    """jax raises an AssertionError without a text."""
    done = run_without_a_gpu("train", "--dataset", "digits", "--epochs", "1", "--results", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for part in ("JAX_PLATFORMS=cuda finds no device", "CPU cores and no NVIDIA driver", "pip install 'jax[cuda13]'"):
        assert part in done.stderr


@pytest.mark.skipif(machine.NVIDIA_DRIVER.exists(), reason="this machine has a GPU")
def test_doctor_goes_on_without_the_device_that_is_asked_for(tmp_path):
    done = run_without_a_gpu("doctor", "--results", str(tmp_path))
    assert done.returncode == 1
    assert "JAX_PLATFORMS=cuda finds no device" in done.stdout
    assert "right  results:" in done.stdout, "the looks after it"


def test_an_unforeseen_error_of_one_look_does_not_end_the_others(monkeypatch):
    def fail():
        raise AssertionError

    monkeypatch.setattr(doctor, "_memory", fail)
    assert wrong() == ["memory: AssertionError: "]
