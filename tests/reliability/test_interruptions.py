"""A run that is killed or stopped, anywhere, goes on as if it had not been. All kills and faults are real."""

import importlib
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from sweeps import SMALL, TinyBatchNorm, last_line, snapshot, train

from rethink_gen import atomic, registry
from rethink_gen.cli import main
from rethink_gen.data import randomness
from rethink_gen.errors import Interrupted
from rethink_gen.results.result import METRICS
from rethink_gen.training import checkpointing, compilation, core, preparation, trainer
from rethink_gen.training.program import Hparams

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def chaos():
    """The figures of a small round of real kills, with another hash seed, time zone and locale than here."""
    command = [sys.executable, HERE / "chaos.py", "quick"]
    environment = {**os.environ, "PYTHONHASHSEED": "12", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_sweep_that_was_killed_again_and_again_leaves_what_an_undisturbed_one_leaves(chaos):
    assert chaos["kill"]["kills"] == 2
    assert chaos["kill"]["results and tables, each with the hash of an undisturbed sweep"] >= 3


@pytest.mark.long
def test_workers_on_one_folder_double_nothing_and_finish_what_the_killed_began(chaos):
    assert chaos["workers"]["kills"] == 1
    assert chaos["workers"]["unfinished"] == chaos["workers"]["trained to the end twice"] == 0
    assert chaos["workers"]["looks of a reader"] > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "anywhere --signal KILL --kills 200",
        "anywhere --signal TERM --kills 200",
        "workers --repeats 5",
        "no-locks",
        "steps",
        "steps --act ENOSPC",
        "steps --act EIO",
        pytest.param(
            "full-disk", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
        ),
    ],
)
def test_sweeps_survive_a_long_siege(line):
    subprocess.run([sys.executable, HERE / "chaos.py", *line.split()], check=True)


def test_file_is_on_disk_before_it_has_its_name_and_its_name_before_it_counts(tmp_path, monkeypatch):
    """What a kill cannot show and a power cut would; the temporary name is another for each writer."""
    calls = []

    def note(name, operation):
        def noted(subject, *others):
            kind = "folder" if isinstance(subject, int) and stat.S_ISDIR(os.fstat(subject).st_mode) else "file"
            calls.append((name, kind) if name == "fsync" else (name, str(subject)))
            return operation(subject, *others)

        return noted

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, note(name, getattr(os, name)))
    for _ in range(2):
        atomic.write(tmp_path / "file", b"content")
    assert [name for name, _ in calls] == ["fsync", "replace", "fsync"] * 2
    assert [kind for name, kind in calls if name == "fsync"] == ["file", "folder"] * 2
    assert len({temporary for name, temporary in calls if name == "replace"}) == 2


@pytest.mark.parametrize("act", ["kill", "ENOSPC", pytest.param("EIO", marks=pytest.mark.slow)])
def test_every_disk_operation_may_be_the_last_or_fail(act):
    command = [sys.executable, HERE / "storage.py", act]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] > 30


@pytest.mark.parametrize(
    ("model", "steps_per_epoch", "steps_per_call"),
    [
        ("mlp_1x512", 3, 2),
        ("tiny_batch_norm", 3, 1),  # where there are convolutions a call takes one step
        *(pytest.param("mlp_1x512", 12, calls, marks=pytest.mark.slow) for calls in (1, 3, 7, 10)),
    ],
)
def test_resumed_at_any_checkpoint_is_never_interrupted(model, steps_per_epoch, steps_per_call, tmp_path, monkeypatch):
    """Curves and the state after the last step, with no tolerance: weights, momentum, batch statistics, sums."""
    monkeypatch.setitem(
        registry.COMPONENTS["model"], "tiny_batch_norm", registry.Component("model", "tiny_batch_norm", TinyBatchNorm)
    )
    run = replace(SMALL, model=model, batch_size=SMALL.train_size // steps_per_epoch)
    in_long_calls = train(run, None).curves
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", steps_per_call)
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    kept, save = [], checkpointing.save_checkpoint

    def keep(folder, *content):
        save(folder, *content)
        kept.append(max(folder.glob("checkpoint-*.npz")).read_bytes())

    monkeypatch.setattr(checkpointing, "save_checkpoint", keep)
    undisturbed = train(run, tmp_path / "undisturbed")
    checkpoints, last = kept[:], checkpointing.load_checkpoint(tmp_path / "undisturbed")
    assert undisturbed.curves == in_long_calls
    assert len(checkpoints) == 2 * -(-steps_per_epoch // steps_per_call)  # an epoch ends a call
    assert any("momentum" in name for name in last[0])
    assert any("batch_stats" in name for name in last[0]) == (model == "tiny_batch_norm")
    for number, checkpoint in enumerate(checkpoints):
        work = tmp_path / str(number)
        work.mkdir()
        (work / "checkpoint-00000000.npz").write_bytes(checkpoint)
        assert train(run, work).curves == undisturbed.curves
        again = checkpointing.load_checkpoint(work)
        assert again[0].keys() == last[0].keys()
        for name, array in again[0].items():
            assert array.tobytes() == last[0][name].tobytes(), f"{name} from checkpoint {number}"


def test_interruption_costs_at_most_the_work_since_the_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", 1)
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    reached = []

    def die(progress):
        reached.append(progress.step)
        if progress.step == 4:
            raise SystemExit  # without a word, as if killed: only what is on disk counts

    with pytest.raises(SystemExit):
        next(trainer.train({SMALL: tmp_path}, report=die, stopped=lambda: None))
    next(trainer.train({SMALL: tmp_path}, report=lambda now: reached.append(now.step), stopped=lambda: None))
    assert reached == [0, 1, 2, 3, 4, 3, 4, 5, 6]  # it goes on from 3: the call under way is all that is done again


def test_checkpoints_that_take_long_are_rarer(tmp_path, monkeypatch):
    """They cost 5 % of the time at most: after each, 20 times what it took goes by, as 60 s after one of 3 s."""
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", 1)
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 20e-6)
    monkeypatch.setattr(trainer, "_CHEAP_SECONDS", 1e-6)
    took, save = [], checkpointing.save_checkpoint

    def note(*content):
        before = time.monotonic()
        save(*content)
        took.append((before, time.monotonic()))

    monkeypatch.setattr(checkpointing, "save_checkpoint", note)
    train(replace(SMALL, epochs=20), tmp_path)
    assert 1 <= len(took) < 60, "there are 60 calls"
    for (before, after), (following, _) in itertools.pairwise(took):
        assert following - after >= 20 * (after - before)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["small_alexnet", "small_inception", "mlp_3x512"])
def test_checkpoint_takes_less_than_a_twentieth_of_a_minute(model, tmp_path, monkeypatch):
    """Of the networks of the paper with their momentum, at the scale of CIFAR-10, on the disk of this test."""
    program = preparation.prepare([replace(SMALL, model=model)])[0]
    hparams = Hparams(randomness.root_key(0), *(0.1,) * 4)
    state = jax.eval_shape(lambda: core.init(program, hparams, np.zeros((1, 32, 32, 3), np.uint8)))
    arrays = checkpointing.flatten(jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), state))
    took = []
    for _ in range(10):
        before = time.monotonic()
        checkpointing.save_checkpoint(tmp_path, arrays, {"curves": {name: [0.1] * 200 for name in METRICS}})
        took.append(time.monotonic() - before)
    print(f"{model}: {sum(array.nbytes for array in arrays.values()) / 1e6:.1f} MB, at most {max(took):.2f} s")
    assert max(took) < trainer._CHEAP_SECONDS == trainer._CHECKPOINT_SECONDS / 20


def test_resume_ignores_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_CHECKPOINT_SECONDS", 0.0)
    for number in range(2):
        checkpointing.save_checkpoint(tmp_path, {"w": np.full(3, number)}, {"epoch": number})
    for path, years in zip(sorted(tmp_path.glob("*.npz")), (10, -10), strict=True):
        os.utime(path, (time.time() + years * 3e7,) * 2)
    assert checkpointing.load_checkpoint(tmp_path)[1] == {"epoch": 1}


def test_no_row_is_there_twice_after_a_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", 1)
    for calls in (1, 2, 3, 1, 2):
        count = iter(range(calls))
        with suppress(Interrupted):
            train(SMALL, tmp_path, stopped=lambda count=count: stop_when_empty(count))
    assert train(SMALL, tmp_path).curves["epoch"] == [0, 1, 2]


def stop_when_empty(count):
    if next(count, None) is None:
        raise Interrupted("stopped")


def test_results_may_be_moved_and_read_where_nothing_can_be_written(
    sweep, places, tmp_path, options, no_other_results, capsys
):
    elsewhere = tmp_path / "moved"
    shutil.move(places["results"], elsewhere)
    before = snapshot(elsewhere)
    moved = ["--results", str(elsewhere), *options[2:]]
    for line in (["status", "labels"], ["table", "labels"], ["verify", "labels"], ["show", "labels"]):
        assert main.main([*line, *moved]) == 0
    assert snapshot(elsewhere) == before
    capsys.readouterr()
    main.main(["table", "labels", *moved])
    assert capsys.readouterr().out == (elsewhere / "labels/laptop/table.md").read_text()
    assert main.main(["run", "labels", *moved]) == 0
    assert "0 of 2 runs to do" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_is_answered_even_while_python_does_not_run(number, tmp_path):
    """As in a long compilation: a minute of one call into C, which lets no handler run."""
    (tmp_path / "long.py").write_text("import hashlib\nEXPERIMENT = hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)")
    load = "import sys; from rethink_gen.cli import main as cli; from rethink_gen.execution import stopping; "
    code = load + "stopping.SECONDS_TO_STOP = 0.2; sys.exit(cli.main(sys.argv[1:]))"
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # not so in the background
    code = heard + code
    line = ["show", "long", "--experiments", str(tmp_path)]
    with subprocess.Popen([sys.executable, "-c", code, *line], stderr=subprocess.PIPE, text=True) as process:
        while not cpu_seconds(process.pid) > 0.5:  # by then it is in that call
            time.sleep(0.05)
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        error = process.stderr.read()
    assert process.returncode == {signal.SIGTERM: 75, signal.SIGINT: 130}[number]
    assert error.splitlines()[-1] == f"rethink-gen show long --experiments {tmp_path}"


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_stop_signal_in_the_midst_of_anything_is_no_error_of_that(tmp_path, capsys):
    """Raised by a handler wherever Python is: here while an experiment is imported, whose errors are the user's."""
    stops = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nwhile True: pass\nEXPERIMENT = 1"
    (tmp_path / "long.py").write_text(stops)
    assert main.main(["show", "long", "--experiments", str(tmp_path)]) == 75
    assert last_line(capsys) == f"rethink-gen show long --experiments {tmp_path}"


@pytest.mark.long
def test_table_and_run_are_the_same_in_another_process_with_another_environment(chaos, tmp_path, monkeypatch):
    """Another hash seed, time zone, locale and folder; the same results and the same table, byte for byte."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", 3)  # as there: a result says so
    sweep = importlib.import_module("chaos").Sweep("many", tmp_path / "here", 10)
    assert main.main(sweep.command) == 0
    assert sweep.hashes() == chaos["hashes"]
    assert len(chaos["hashes"]) == 10 + 1
