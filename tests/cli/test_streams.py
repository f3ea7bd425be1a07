"""Work does not fail because what it prints cannot be shown: other encodings, closed streams, a full disk."""

import os
import subprocess
import sys

import pytest

from rethink_gen.execution import progress

# It prints a line to each stream: a plan with its name in letters that ASCII lacks, and what it costs.
EXPERIMENT = '''"""Größe 1×512."""
from rethink_gen import Experiment, Run

RUNS = (Run(dataset="digits"),)
EXPERIMENT = Experiment(claim="Größe: 1×512 ≥ 0", locator="–", runs=RUNS, laptop=RUNS)
'''


def shell(line, folder, **environment):
    """A command line with the redirections of a shell."""
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "own.py").write_text(EXPERIMENT)
    program = f"{sys.executable} -m rethink_gen"
    return subprocess.run(
        ["sh", "-c", line.replace("rethink-gen", program)],
        cwd=folder, capture_output=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"Gr??e: 1?512 ? 0"), ("latin-1", "Größe: 1×512 ? 0".encode("latin-1"))]
)
def test_letters_that_a_terminal_does_not_know_are_replaced(encoding, shown, tmp_path):
    done = shell("rethink-gen list --experiments mine", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_work_goes_on_where_a_stream_is_closed_or_full(closed, tmp_path):
    if "full" in closed and not os.path.exists("/dev/full"):
        pytest.skip("this system has no device that is always full")
    done = shell(f"rethink-gen run own --dry-run --experiments mine {closed}", tmp_path)
    assert done.returncode == 0
    assert (b"id" in done.stdout) == (">&-" not in closed.split())


def test_progress_without_a_standard_error_is_left_out(monkeypatch):
    """As in a script that a window system starts."""
    monkeypatch.setattr(sys, "stderr", None)
    progress.say("nobody reads this")
    with progress.progress() as report:
        assert callable(report)
