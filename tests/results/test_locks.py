"""What waits says for whom and how to go on, and nothing waits for a pipe."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from frames import EXPERIMENT
from frames import result as example

from rethink_gen import atomic, experiment
from rethink_gen.cli import main
from rethink_gen.errors import StorageError
from rethink_gen.execution import processes, progress, scheduler
from rethink_gen.results import locks, store
from rethink_gen.runs import Run
from rethink_gen.study import studies
from rethink_gen.training.progress import Progress

needs_linux = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="Linux alone tells who holds a lock")
SMALL = Run(dataset="digits", train_size=64, test_size=50, batch_size=32, epochs=1)

HOLD = """
import sys, time
from pathlib import Path
from rethink_gen.results import locks
with locks.claim(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Starts a process that holds a lock, stopped by a signal as by Ctrl-Z."""
    started = []

    def start(folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        owner = subprocess.Popen([sys.executable, "-c", HOLD, folder, name], stdout=subprocess.PIPE, text=True)
        started.append(owner)
        assert owner.stdout.readline() == "held\n"
        owner.send_signal(signal.SIGSTOP)
        while not locks.is_stopped(owner.pid):
            time.sleep(0.01)
        return owner

    yield start
    for owner in started:
        owner.kill()
        owner.wait()
        owner.stdout.close()


@needs_linux
def test_who_waits_for_the_lock_of_a_table_is_told_which_process_is_stopped(hold, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    owner = hold(tmp_path, "table")
    threading.Timer(0.6, owner.kill).start()
    with locks.claim(tmp_path, "table", wait=True) as ours:
        assert ours
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"waiting for {tmp_path}/.work/table.lock: process {owner.pid} holds it and is stopped; ")
    assert said.endswith(f"kill -CONT {owner.pid} continues it, kill -9 {owner.pid} ends it")


@needs_linux
def test_who_waits_for_a_run_is_told_which_process_is_stopped(hold, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    monkeypatch.setattr(scheduler, "_SECONDS_BETWEEN_LOOKS", 0.05)
    owner = hold(tmp_path, SMALL.id)
    told = []

    def report(now):
        told.append(now)
        if now.holder:
            owner.kill()
            owner.wait()

    [outcome] = scheduler.execute([SMALL], work=tmp_path, report=report)
    assert outcome.run == SMALL
    assert not told[0].holder, "at first nothing is wrong"
    holders = {now.holder for now in told if now.holder}
    assert f"kill -CONT {owner.pid} continues it" in holders.pop()


def test_log_of_a_process_that_waits_has_a_line_a_minute_and_one_that_names_the_holder(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = progress._lines()
    runs = [SMALL, replace(SMALL, seed=1)]
    for second in range(180):
        clock[0] += 1
        holder = "process 7 holds it" if second > 10 else ""
        report(Progress(runs[second % 2], 0, 1, 0, {}, 0, 2, None, waiting=True, holder=holder))
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("waiting: another process works on it")
    assert said[1].endswith("waiting: process 7 holds it")
    assert 3 <= len(said) <= 5


@needs_linux
def test_stopped_worker_does_not_outlive_its_parent_and_keep_its_lock(tmp_path):
    """The parent is killed; a worker that is stopped cannot see the end of its input."""
    order = '{"folder": "x", "force": false, "keep_weights": false, "argv": ["x"], "components": "", "cores": [0]}\n'
    code = """
import subprocess, sys, time
worker = subprocess.Popen(
    [sys.executable, "-P", "-c", "from rethink_gen.execution import processes; processes.main()"],
    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
worker.stdin.write(sys.argv[1].encode()); worker.stdin.flush()
print(worker.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, order], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(2)  # until it has read its order
        os.kill(worker, signal.SIGSTOP)
        while not locks.is_stopped(worker):
            time.sleep(0.01)
        parent.kill()
    end = time.monotonic() + 5
    while _alive(worker):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.05)


def _alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


@needs_linux
def test_parent_names_a_worker_that_is_stopped(capsys):
    with subprocess.Popen(["sleep", "60"]) as child:
        child.send_signal(signal.SIGSTOP)
        while not locks.is_stopped(child.pid):
            time.sleep(0.01)
        worker = processes.Worker.__new__(processes.Worker)
        worker.run, worker.process = SMALL, child
        processes._name_stopped([worker])
        child.kill()
    assert f"kill -CONT {child.pid} continues it" in capsys.readouterr().err


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.py").write_text(EXPERIMENT)
    folder = tmp_path / "results" / "labels" / "laptop"
    found = experiment.find("labels", tmp_path / "mine").at("laptop")
    for run in found.runs:
        store.save(example(run), folder)
    studies.renew(found, "results")
    return folder


def test_verify_does_not_wait_for_a_pipe_that_is_named_as_a_table(places, capsys):
    (places / "table.md").unlink()
    os.mkfifo(places / "table.md")
    assert main.main(["verify", "labels", "--experiments", "mine"]) == 1
    assert "table.md: is not a file; delete it and write it anew: rethink-gen run labels" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["filters", "confusion"])
def test_pictures_do_not_wait_for_a_pipe_that_is_named_as_weights(verb, places, capsys):
    path = min(places.glob("*.json"))
    os.mkfifo(path.with_suffix(".weights.npz"))
    assert main.main(["plot", verb, path.stem]) == 4
    assert f"{path.stem}.weights.npz: not a file; delete it" in capsys.readouterr().err


def test_training_with_weights_does_not_take_a_pipe_for_them(places):
    run = store.read(min(places.glob("*.json"))).run
    os.mkfifo(store.weights_file(places, run))
    assert not store.done(places, run, weights=True)
    store.save(replace(example(run), weights={"params/a": np.zeros(2)}), places, replace=True)
    assert store.weights_file(places, run).is_file()


def test_listing_does_not_wait_for_a_pipe_among_experiments(places, capsys):
    os.mkfifo("mine/pipe.py")
    assert main.main(["list", "--experiments", "mine"]) == 0
    assert "labels" in capsys.readouterr().out


SECOND_USER = """
import os, sys
from pathlib import Path
from rethink_gen.results import locks

folder, mask = Path(sys.argv[1]), int(sys.argv[2])
os.umask(mask)
with locks.claim(folder, "table") as ours:
    assert ours
if mask == 0o022:
    locks.lock_file(folder, "table").chmod(0o644)  # as an older version left it
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for name in ("table", "another"):
    with locks.claim(folder, name, wait=True) as ours:
        assert ours
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_second_user_of_a_shared_folder_can_lock_what_the_first_has_locked(mask, tmp_path):
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o777)  # pytest keeps its folders from others
    tmp_path.chmod(0o777)
    subprocess.run([sys.executable, "-c", SECOND_USER, str(tmp_path), str(mask)], check=True)


@pytest.mark.parametrize(("number", "refused"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_file_is_written_where_a_disk_refuses_fsync_but_not_where_it_fails(number, refused, tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if refused:
        atomic.write(tmp_path / "table.md", b"content")
        assert (tmp_path / "table.md").read_bytes() == b"content"
    else:
        with pytest.raises(StorageError, match=r"table.md: cannot be written"):
            atomic.write(tmp_path / "table.md", b"content")
