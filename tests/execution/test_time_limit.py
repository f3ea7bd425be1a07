"""A command with a time limit: what it may begin, what it stops, and what comes first when there is much to do."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from frames import EXPERIMENT, result

from rethink_gen import registry
from rethink_gen.cli import main
from rethink_gen.errors import RethinkError, TimeIsUp, UsageError
from rethink_gen.execution import costs, processes, scheduler, time_limit
from rethink_gen.execution.time_limit import SECONDS_TO_STOP, TimeLimit
from rethink_gen.experiment import Experiment
from rethink_gen.results import store
from rethink_gen.runs import Run, grid
from rethink_gen.study import everything
from rethink_gen.study.studies import Study
from rethink_gen.training import trainer

RUN = Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=2)
HERE = {"device": time_limit._device(1)}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def taken(run, seconds):
    """A result that says how long a run took here."""
    made = result(run, (0.1,) * (run.epochs + 1))
    return replace(made, provenance={**made.provenance, **HERE, "seconds_train": seconds})


@pytest.mark.parametrize(
    ("text", "seconds"), [("12m", 720), ("1h30m", 5400), ("90s", 90), ("2h", 7200), ("1h1m1s", 3661), ("10s", 10)]
)
def test_times_are_read(text, seconds):
    assert time_limit.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "12", "m", "-5m", "5 m", "9s", "0h", "1.5h", "30m1h", "9" * 40 + "s"])
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="such as 12m, 1h30m or 90s"):
        time_limit.parse(text)


def test_a_run_whose_pretraining_has_begun_goes_on(tmp_path):
    limit = TimeLimit(50 + SECONDS_TO_STOP, [taken(RUN, 100.0)], Clock())
    run = replace(RUN, seed=1)
    assert not limit.fits(run, tmp_path)
    folder = tmp_path / ".work" / run.id / "pretraining"
    folder.mkdir(parents=True)
    (folder / "checkpoint-00000000.npz").touch()
    assert limit.fits(run, tmp_path)


def test_a_run_begins_only_if_it_can_end_in_time(tmp_path):
    """Two epochs took 100 s, so four take 200 s."""
    clock = Clock()
    limit = TimeLimit(150 + SECONDS_TO_STOP, [taken(RUN, 100.0)], clock)
    short, long, other = replace(RUN, seed=1), replace(RUN, epochs=4), replace(RUN, model="mlp_3x512")
    assert limit.fits(short, tmp_path)
    assert not limit.fits(long, tmp_path)
    assert limit.fits(other, tmp_path), "of which nothing is known"
    clock.now += 49
    assert limit.fits(short, tmp_path)
    clock.now += 2
    assert not limit.fits(short, tmp_path)
    folder = tmp_path / ".work" / short.id
    folder.mkdir(parents=True)
    (folder / "checkpoint-00000000.npz").touch()
    assert limit.fits(short, tmp_path), "it has begun, and goes on from its checkpoint"
    clock.now += 100
    assert not limit.fits(short, tmp_path)
    assert not limit.fits(other, tmp_path)


def test_what_a_run_takes_is_learned_from_those_that_ended_before_it(tmp_path):
    limit = TimeLimit(60, (), Clock())
    assert limit.seconds(replace(RUN, seed=1), tmp_path) is None
    store.save(taken(RUN, 30.0), tmp_path)
    assert limit.seconds(replace(RUN, seed=1), tmp_path) == 30.0
    store.save(taken(replace(RUN, seed=2), 50.0), tmp_path)
    assert limit.seconds(replace(RUN, seed=1), tmp_path) == 40.0, "the median of both"


def test_results_are_gone_through_once_and_not_for_each_run_that_waits(tmp_path, monkeypatch):
    """Of 3,000 results that takes half a second, and a queue asks for hundreds of runs."""
    timings, calls = costs.timings, []
    monkeypatch.setattr(costs, "timings", lambda results: calls.append(results) or timings(results))
    limit = TimeLimit(60, [taken(RUN, 30.0)], Clock())
    assert [limit.seconds(replace(RUN, seed=seed), tmp_path) for seed in range(3)] == [30.0] * 3
    assert len(calls) == 1


def test_the_device_of_an_estimate_is_that_of_results_alone_and_in_worker_processes(tmp_path, monkeypatch):
    """Else nothing would ever be known of a run, and each would begin."""
    [alone] = scheduler.execute([RUN])
    assert time_limit._device(1) == alone.provenance["device"]
    monkeypatch.delenv("NPROC", raising=False)
    runs = grid(RUN, seed=(0, 1))
    if (number := processes.count(runs)) == 1:
        pytest.skip("on one core there is one process")
    processes.finish(runs, tmp_path, None, processes=number)
    limit = TimeLimit(60, store.load(tmp_path), Clock())
    assert limit.seconds(replace(RUN, seed=2), tmp_path / "elsewhere", number) is not None


def test_runs_that_do_not_fit_are_left_out_and_the_others_trained(tmp_path):
    runs = grid(RUN, learning_rate=(0.01, 0.1), seed=(0, 1))
    done = scheduler.execute(runs, work=tmp_path, fits=lambda run: run.seed == 1)
    assert {outcome.run for outcome in done} == {run for run in runs if run.seed == 1}


def test_settings_without_a_result_come_first_then_those_with_fewer_seeds_then_the_shortest():
    def study(name, runs, done):
        return Study(
            Experiment(claim="", locator="", runs=runs, laptop=runs, name=name),
            tuple(map(result, done)),
            Path("nowhere"),
        )

    cheap, dear = replace(RUN, model="softmax_regression"), replace(RUN, model="mlp_3x512")
    seeds = lambda run, *numbers: [replace(run, seed=seed) for seed in numbers]
    first = study("a", (*seeds(dear, 0, 1), *seeds(cheap, 0, 1, 2)), seeds(cheap, 0))
    second = study("b", tuple(seeds(RUN, 0, 1)), [])
    costs = {"softmax_regression": 1.0, "mlp_3x512": 50.0}  # that of the second is not known
    queue = everything.queue([first, second], lambda _, run: costs.get(run.model))
    assert [(run.model, run.seed) for _, run in queue] == [
        ("mlp_3x512", 0),  # no result, 50 s
        (RUN.model, 0),  # no result, not known
        ("softmax_regression", 1),  # then the second seed of each, of 1 s, 50 s and not known
        ("mlp_3x512", 1),
        (RUN.model, 1),
        ("softmax_regression", 2),
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch, no_other_results):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.py").write_text(EXPERIMENT)
    (tmp_path / "mine" / "long.py").write_text(EXPERIMENT.replace("epochs=2", "epochs=100000"))
    monkeypatch.setenv("NPROC", "1")  # in this process
    monkeypatch.setattr(time_limit, "_SHORTEST", 1)
    monkeypatch.setattr(trainer._Cohort, "save_if_due", lambda cohort: time.sleep(0.2))  # not busy until the limit
    return ["--experiments", str(tmp_path / "mine"), "--results", str(tmp_path / "r")]


def test_a_time_limit_is_kept_within_five_seconds_and_the_run_goes_on_from_its_checkpoint(folder, tmp_path, capsys):
    assert main.main(["run", "labels", "--seeds", "0", *folder]) == 0  # loads and compiles what is needed
    capsys.readouterr()
    started = time.monotonic()
    assert main.main(["run", "long", "--time-limit", "8s", *folder]) == TimeIsUp.exit_code
    assert abs(time.monotonic() - started - 8) <= 5
    assert "the time limit is reached" in capsys.readouterr().err
    assert len(list((tmp_path / "r").rglob("checkpoint-*.npz"))) == 1


def test_all_runs_what_is_missing_everywhere_and_says_what_it_left(folder, tmp_path, capsys):
    assert main.main(["run", "--all", "--time-limit", "12s", *folder]) == TimeIsUp.exit_code
    said = capsys.readouterr().err
    assert "labels, laptop scale: results of 5 of 10 runs" in said, "a seed of each setting, before `long` began"
    assert (tmp_path / "r" / "labels" / "laptop" / "table.md").is_file()
    assert main.main(["run", "--all", "labels", *folder]) == UsageError.exit_code
    assert main.main(["run", *folder]) == UsageError.exit_code


def test_a_run_that_failed_is_told_and_not_taken_for_one_that_had_no_time(folder, tmp_path, monkeypatch, capsys):
    broken = registry.Component("model", "broken", lambda num_classes: 1 / 0)
    monkeypatch.setitem(registry.COMPONENTS["model"], "broken", broken)
    (tmp_path / "mine" / "long.py").unlink()
    text = EXPERIMENT.replace("Run(dataset", 'Run(model="broken", dataset')
    (tmp_path / "mine" / "labels.py").write_text(text)
    assert main.main(["run", "--all", "--time-limit", "1h", *folder]) == RethinkError.exit_code
    assert "ZeroDivisionError" in capsys.readouterr().err
