"""What docs/ offers to schedulers, run here as they would run it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from frames import EXPERIMENT

from rethink_gen.cli import main, parser
from rethink_gen.results import store

DOCS = Path(__file__).parents[2] / "docs"
PATH = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def curves(folder):
    return {path.name: store.read(path).curves for path in Path(folder).rglob("*.json")}


def slurm(task, *words, parts):
    """What a task of the array does, of an array of which all tasks were asked for, or this one alone."""
    for count in ("1", parts):
        variables = {**PATH, "SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": count, "PARTS": parts}
        subprocess.run([DOCS / "slurm.sh", *words], env=variables, check=True)


@pytest.mark.long
def test_tasks_of_the_slurm_array_merged_are_one_run(tmp_path, monkeypatch):
    """Also where a task is given alone, as by --array=2: its part is the same."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/labels.py").write_text(EXPERIMENT)
    own = ["--experiments", "mine"]
    for task in ("1", "2"):
        slurm(task, "labels", "--scale", "laptop", *own, parts="2")
    assert not curves("parts/2/1").keys() & curves("parts/2/2").keys()
    assert main.main(["merge", "parts/2/1", "parts/2/2", *own]) == 0
    assert main.main(["run", "labels", *own, "--results", "whole"]) == 0
    assert curves("results") == curves("whole")
    table = Path("labels/laptop/table.md")
    assert ("results" / table).read_bytes() == ("whole" / table).read_bytes()


def test_slurm_array_has_as_many_tasks_as_parts():
    script = (DOCS / "slurm.sh").read_text()
    assert "#SBATCH --array=1-8\n" in script
    assert "PARTS=${PARTS:-8}\n" in script


def test_pods_of_the_kubernetes_job_run_all_parts(tmp_path):
    """The shell command of each pod, with a rethink-gen that only says what it was asked to do."""
    (tmp_path / "rethink-gen").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "rethink-gen").chmod(0o755)
    job = yaml.safe_load((DOCS / "kubernetes.yaml").read_text())["spec"]
    [container] = job["template"]["spec"]["containers"]
    asked = []
    for index in range(job["completions"]):
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
        line = [*container["command"], *container["args"]]
        asked.append(subprocess.run(line, env=variables, capture_output=True, text=True, check=True).stdout)
    parsed = [parser.parse(shlex.split(line)) for line in asked]
    assert [arguments.shard for arguments in parsed] == [f"{i}/8" for i in range(1, 9)]
    assert len({arguments.results for arguments in parsed}) == 8
