"""What this machine is taken for: its quota of cores, devices that are one CPU, and the cores that made a result."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import pytest
from frames import result as example

import rethink_gen as rg
from rethink_gen.execution import machine, processes
from rethink_gen.results import store
from rethink_gen.runs import Run
from rethink_gen.study import verification
from rethink_gen.training import compilation, provenance, vectorize

SMALL = Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=1)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({}, 8),
    ],
)
def test_quota_of_a_container_limits_the_cores(files, cores, tmp_path, monkeypatch):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "cores", lambda: list(range(8)))
    monkeypatch.setattr(machine, "accelerated", lambda: False)
    monkeypatch.delenv("NPROC", raising=False)
    assert machine.count_cores() == cores
    assert processes.count([Run(seed=seed) for seed in range(20)]) == cores


def test_xla_gets_the_quota_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: list(range(8)))
    monkeypatch.setattr(machine, "_quota", lambda: 2)
    monkeypatch.setattr(machine, "_by_quota", [])
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setenv("NPROC", "5")
    machine.respect_quota()
    assert os.environ["NPROC"] == "5"
    monkeypatch.delenv("NPROC")
    machine.respect_quota()
    assert os.environ["NPROC"] == "2"
    assert not machine.is_told(), "so that a grid still has its workers"


def test_eight_devices_of_one_cpu_train_one_run_in_one_lane(monkeypatch):
    """As --xla_force_host_platform_device_count=8 of other work leaves them: it took three times as long."""
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert vectorize.width(SMALL) == 1


def test_compilation_cache_of_the_user_stays(tmp_path):
    code = (
        "import jax; from rethink_gen.training import compilation\n"
        "compilation.use_compile_cache(); print(jax.config.jax_compilation_cache_dir)"
    )
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path)
    assert compilation.use_compile_cache


def test_one_core_is_one_core(monkeypatch, tmp_path):
    monkeypatch.setenv("NPROC", "1")
    provenance._of_process.cache_clear()
    try:
        assert provenance.provenance()["device"] == "cpu (1 core)"
    finally:
        provenance._of_process.cache_clear()
    result = example(SMALL)
    path = store.save(replace(result, provenance={**result.provenance, "device": "cpu (1 cores)"}), tmp_path)
    assert json.loads(path.read_bytes())["provenance"]["device"] == "cpu (1 cores)", "as older versions wrote it"
    assert store.read(path).provenance["device"] == "cpu (1 core)"


@pytest.mark.slow
@pytest.mark.skipif(len(machine.cores()) < 2, reason="this machine has one core")
def test_run_of_a_grid_is_retrained_with_the_cores_that_made_it(tmp_path, monkeypatch):
    """A grid gives each worker one core; `verify --retrain` took all, and called the same machine another device."""
    monkeypatch.delenv("NPROC")
    rg.run(rg.grid(SMALL, seed=range(2)), results=tmp_path, workers=2, report=lambda now: None)
    made = [store.read(path) for path in (tmp_path / "train").glob("*.json")]
    assert all(f"({len(machine.cores()) // 2} core" in result.provenance["device"] for result in made)
    findings = list(verification.retrain(2, results=tmp_path))
    assert [finding.what.partition(": ")[2] for finding in findings] == ["trained anew, to the last bit"] * 2
    assert not [line for finding in findings for line in finding.wrong]
