"""The rooms of the package, and who may know whom."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(folder):
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(folder), "PATH": ""}, capture_output=True, text=True
    )


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "rethink_gen", tmp_path / "rethink_gen", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_point_down_and_go_in_no_circle(copy):
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/datasets.py", "from rethink_gen.training import core"),
        ("results/store.py", "def late():\n    from rethink_gen.study import studies"),
        ("analysis/tables.py", "from rethink_gen.execution import scheduler"),
    ],
)
def test_an_import_that_points_up_breaks_the_contract(copy, file, line):
    with (copy / "rethink_gen" / file).open("a") as module:
        module.write(f"\n\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert "is not allowed to import" in done.stdout


def test_each_room_says_what_it_is_for():
    rooms = [path.parent for path in (ROOT / "rethink_gen").glob("*/__init__.py")]
    assert {room.name for room in rooms} >= {"data", "models", "training", "solvers", "execution", "results", "cli"}
    for room in rooms:
        first = (room / "__init__.py").read_text().splitlines()[0]
        assert first.startswith('"""'), room
        modules = [path for path in room.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 14, room


def test_importing_the_package_takes_a_moment():
    """Less than 0.3 s on a quiet machine; the limit here leaves room for a busy one."""
    code = "import rethink_gen, sys; sys.exit(any(name in sys.modules for name in ('jax', 'pandas', 'numpy', 'flax')))"
    begin = time.process_time()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.process_time() - begin < 1.0
