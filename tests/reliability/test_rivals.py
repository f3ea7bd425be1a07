"""Processes at the same work double nothing, lose nothing, and wait for nobody who is dead. See docs/reliability.md."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

from sweeps import SMALL, last_line, result

from rethink_gen.cli import main
from rethink_gen.execution import scheduler
from rethink_gen.results import locks, store
from rethink_gen.study import running
from rethink_gen.training import preparation


def test_dead_owner_does_not_block(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from rethink_gen.results import locks\n"
        "with locks.claim(Path(sys.argv[1]), 'run') as ours: print(ours, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "True\n"
        with locks.claim(tmp_path, "run") as ours:
            assert not ours
        owner.kill()
        owner.wait()
        with locks.claim(tmp_path, "run") as ours:
            assert ours


def test_run_that_another_process_finished_is_passed_over(tmp_path):
    """The result appears between the plan and the claim: a lock without a second look would train it again."""
    other = replace(SMALL, seed=1)
    outcomes = []
    for outcome in scheduler.execute([SMALL, other], work=tmp_path):
        outcomes.append(outcome)
        for run in (SMALL, other):
            store.save(result(run), tmp_path)
    assert [outcome.run for outcome in outcomes] == [SMALL]


def test_run_that_another_process_is_at_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "_SECONDS_BETWEEN_LOOKS", 0.0)
    other = replace(SMALL, seed=1)
    owner = locks.claim(tmp_path, SMALL.id)
    assert owner.__enter__()
    waits = []

    def report(progress):
        waits.append(progress.waiting)
        if waits.count(True) == 3:  # now the other process dies
            owner.__exit__(None, None, None)

    outcomes = list(scheduler.execute([SMALL, other], work=tmp_path, report=report))
    assert [outcome.run for outcome in outcomes] == [other, SMALL]
    assert waits.count(True) == 3


def test_where_there_are_no_locks_work_goes_on(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    for _ in range(2):
        with locks.claim(tmp_path, "run") as ours, locks.claim(tmp_path, "run") as theirs:
            assert ours
            assert theirs


def test_second_result_of_a_run_is_kept_aside_if_it_differs(tmp_path, places, monkeypatch, options, capsys):
    first = store.save(result(), tmp_path)
    content = first.read_bytes()
    assert store.save(result(), tmp_path) == first
    other = store.save(result(accuracy=0.75), tmp_path)
    assert other.suffix == ".conflict"
    assert first.read_bytes() == content
    assert store.load(tmp_path) == [result()]
    assert store.save(result(accuracy=0.75), tmp_path, replace=True) == first

    def rival(cohort):  # publishes while we train
        store.save(result(cohort[0]), places["results"] / "labels" / "laptop")
        return prepare(cohort)

    prepare = preparation.prepare
    monkeypatch.setattr(preparation, "prepare", rival)
    assert main.main(["run", "labels", *options]) == 1
    assert "not the result that another process published" in last_line(capsys)
    monkeypatch.undo()
    assert main.main(["verify", "labels", *options]) == 1
    assert ".conflict: conflicting result for one run" in capsys.readouterr().out


def test_shards_are_disjoint_and_complete_and_depend_on_the_ids_alone(places):
    study = running.plan("labels", seeds=range(20), **places)
    for n in range(1, 8):
        parts = [running.to_do(study, shard=(i, n)) for i in range(1, n + 1)]
        assert Counter(run for part in parts for run in part) == Counter(study.missing)
    shuffled = replace(study, experiment=replace(study.experiment, runs=study.experiment.runs[::-1]))
    assert set(running.to_do(shuffled, shard=(2, 3))) == set(running.to_do(study, shard=(2, 3)))
    assert [run.seed for run in running.to_do(study, shard=(1, 7)) if run.corruption == "true_labels"] == SHARD_1_OF_7


SHARD_1_OF_7 = [8, 11, 12, 18]  # of seeds 0..19; another list would mean that machines with two versions overlap


def test_run_that_processes_died_of_comes_last(tmp_path):
    runs = [replace(SMALL, epochs=1, seed=seed) for seed in range(2)]
    code = (
        "import os, sys; from pathlib import Path; from rethink_gen.results import locks\n"
        "for _ in range(3):\n"
        "    claim = locks.claim(Path(sys.argv[1]), sys.argv[2])\n"
        "    if not os.fork(): claim.__enter__(); os._exit(9)\n"
        "    os.wait()"
    )
    order = lambda: [outcome.run for outcome in scheduler.execute(runs, work=tmp_path)]
    assert order() == runs
    subprocess.run([sys.executable, "-c", code, str(tmp_path), runs[0].id], check=True)
    assert locks.deaths(tmp_path, runs[0]) == scheduler._DEATHS == 3
    assert order() == runs[::-1]
    assert locks.deaths(tmp_path, runs[0]) == 0


def test_order_and_company_do_not_matter():
    runs = [replace(SMALL, seed=seed, model=model) for seed in (0, 1) for model in ("mlp_1x512", "mlp_3x512")]
    together = {outcome.run: outcome.curves for outcome in scheduler.execute(runs)}
    assert {outcome.run: outcome.curves for outcome in scheduler.execute(runs[::-1])} == together
    assert next(scheduler.execute(runs[1:2])).curves == together[runs[1]]
