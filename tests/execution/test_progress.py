"""What is shown while runs train: how many are done and failed, the newest numbers, the time left."""

import io

import pytest
from frames import MLP, RANDOM

from rethink_gen.execution import progress
from rethink_gen.execution.scheduler import Progress
from rethink_gen.runs import KernelRun

METRICS = {"train_loss": 0.41234, "train_accuracy": 0.973, "test_accuracy": 0.101}
NOW = Progress(RANDOM, 350, 1000, 35, METRICS, 3, 12, 50.0, failed_runs=1)


def shown(now, seconds_left=83.0, width=100):
    """The lines of a terminal of that width."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(progress._screen(now, seconds_left))
    return console.file.getvalue().splitlines()


def test_a_terminal_shows_runs_done_running_failed_the_newest_numbers_and_the_time_left():
    first, second, third = shown(NOW)
    assert first.rstrip().endswith("2 of 12 runs done, 1 running, 1 failed, 1.4 min left")
    assert second == RANDOM.id
    assert third == "epoch 35/100, loss 0.412, train 97.3 %, test 10.1 %"


def test_what_is_not_known_yet_is_left_out():
    first, _, third = shown(NOW._replace(metrics={"train_loss": None}, failed_runs=0), None)
    assert first.rstrip().endswith("3 of 12 runs done, 1 running")
    assert third == "epoch 35/100"
    assert shown(NOW._replace(run=KernelRun(), metrics={}))[2] == "35% solved"


def test_every_line_says_what_compiling_took_unless_an_earlier_run_did_it(capsys):
    compiled = NOW._replace(seconds_compile=9.44)
    assert shown(compiled)[2] == "epoch 35/100, loss 0.412, train 97.3 %, test 10.1 %, compiled in 9.4 s"
    report = progress._lines()
    report(compiled._replace(step=1000, epoch=100))
    assert "test 10.1 %, compiled in 9.4 s, 50 s left" in capsys.readouterr().err
    assert "compiled" not in shown(NOW._replace(seconds_compile=0.04))[2]


def test_a_run_that_has_ended_is_done():
    assert "12 of 12 runs done" in shown(NOW._replace(step=1000, done_runs=11, failed_runs=0), None)[0]


def test_a_run_that_another_process_is_at_is_waited_for():
    assert shown(NOW._replace(waiting=True))[2] == "waiting: another process works on it"


@pytest.mark.parametrize("width", [10, 40])
def test_on_a_narrow_terminal_lines_are_cut_and_none_is_added(width):
    lines = shown(NOW, width=width)
    assert len(lines) == 3
    assert max(map(len, lines)) <= width


def test_a_log_says_how_many_runs_failed(capsys):
    report = progress._lines()
    report(NOW._replace(step=1000, epoch=100, run=MLP))
    said = capsys.readouterr().err
    assert said.startswith(f"(4/12, 1 failed) {MLP.id}: epoch 100/100, loss 0.412, train 97.3 %")
    assert said.count("\n") == 1
