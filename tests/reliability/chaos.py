"""Kills real sweeps, and shows that they leave what an undisturbed sweep leaves: the promises of docs/reliability.md.

    python tests/reliability/chaos.py anywhere --signal KILL --kills 200
    python tests/reliability/chaos.py anywhere --signal TERM --kills 200
    python tests/reliability/chaos.py steps
    python tests/reliability/chaos.py steps --act ENOSPC
    python tests/reliability/chaos.py steps --act EIO
    python tests/reliability/chaos.py workers --repeats 5
    python tests/reliability/chaos.py no-locks
    python tests/reliability/chaos.py full-disk              # as root, who can mount a small one

A process that has imported jax, but not started it, forks the commands: each begins in a tenth of the time that a fresh
interpreter takes, and is killed for real. Prints what was done and measured as a line of JSON; fails if a promise is
broken.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import Steps
from forked import Sweep, wait


def anywhere(scratch: Path, *, name: str, number: int, kills: int, longest: float, seed: int = 0) -> dict:
    """Sweeps, killed at random times and started again until they end, until so many kills were dealt."""
    rng = random.Random(seed)
    reference = Sweep(name, scratch / "undisturbed").finish()
    dealt, sweeps, slowest, outside = 0, 0, 0.0, 0
    while dealt < kills:
        sweep = Sweep(name, scratch / f"killed-{sweeps}")
        code = None
        while code != 0:
            if dealt >= kills:
                assert sweep.finish() == reference
                break
            before = temporaries(sweep.folder)
            pid = sweep.start()
            time.sleep(rng.uniform(0, longest))
            sent = time.monotonic()
            os.kill(pid, number)
            code = wait(pid)
            slowest = max(slowest, time.monotonic() - sent)
            sweep.watch()
            assert temporaries(sweep.folder) <= before + 1  # one is left at most by each kill
            if code == 0:
                continue
            dealt += 1
            if number == signal.SIGTERM and code == 75:
                assert sweep.error(pid).splitlines()[-1] == "rethink-gen " + " ".join(sweep.command), sweep.error(pid)
            elif code == -number:
                outside += number == signal.SIGTERM  # before the command began to listen, or after it had ended
            else:
                raise AssertionError((code, sweep.error(pid)))
        assert sweep.hashes() == reference, "not what an undisturbed sweep leaves"
        assert temporaries(sweep.folder) == 0
        sweeps += 1
    return {
        "signal": signal.Signals(number).name,
        "kills": dealt,
        "sweeps": sweeps,
        "results and tables, each with the hash of an undisturbed sweep": len(reference) * sweeps,
        "seconds to answer, at most": round(slowest, 2),
        "signals outside of the command": outside,
    }


def temporaries(folder: Path) -> int:
    """How many unfinished files there are."""
    return sum(path.name.startswith(".") and path.is_file() for path in folder.rglob(".*-*"))


def steps(scratch: Path, *, every: int = 1, act: str = "kill") -> dict:
    """A sweep of one run, ended at each of its disk operations in turn, then started again."""
    reference = Sweep("one", scratch / "undisturbed").finish()
    n, codes = 0, Counter()
    for n in range(1, 10_000, every):
        sweep = Sweep("one", scratch / f"step-{n}")
        pid = sweep.start(fatal=n, act=act)
        code = wait(pid)
        codes[code] += 1
        if act != "kill":
            error = sweep.error(pid)
            assert code in (0, 4), (n, code, error)
            assert "Traceback" not in error
            assert code == 0 or error.splitlines()[-1].startswith("rethink-gen: error: /"), error
            assert code == 0 or str(sweep.root) in error.splitlines()[-1]
        done = act == "kill" and code == 0
        sweep.watch()
        assert sweep.finish() == reference, f"step {n}"
        if done or (act != "kill" and n > count_steps(scratch, act)):
            break
    return {"act": act, "steps": n, "every": every, "exit codes": dict(codes)}


def count_steps(scratch: Path, act: str) -> int:
    """How many steps a whole sweep has."""
    path = scratch / f"count-{act}"
    if not path.exists():
        sweep = Sweep("one", scratch / f"counted-{act}")
        pid = os.fork()
        if not pid:
            code = 70
            with contextlib.suppress(BaseException):
                sweep.redirect()
                log = os.open(path, os.O_WRONLY | os.O_CREAT)
                Steps(sweep.folder, 0, act, log).install()
                from rethink_gen.cli import main
                from rethink_gen.training import compilation, trainer

                trainer._CHECKPOINT_SECONDS, compilation._STEPS_PER_CALL = 0.0, 3
                code = main.main(sweep.command)
            os._exit(code)
        assert wait(pid) == 0
    return len(path.read_text().splitlines())


def workers(
    scratch: Path, *, repeats: int, runs: int, processes: int, kills: int, locks: bool = True, seed: int = 0
) -> dict:
    """Several processes on one folder, killed now and then, while another reads; then the command once more."""
    from rethink_gen.study import running

    rng = random.Random(seed)
    reference = Sweep("many", scratch / "alone", runs).finish()
    doubled, excused, dealt, looks = 0, 0, 0, 0
    for repeat in range(repeats):
        sweep = Sweep("many", scratch / f"workers-{repeat}", runs)
        places = {"results": sweep.root / "results", "experiments": sweep.root / "experiments"}
        when = sorted(rng.choices(range(runs), k=kills))
        live = [sweep.start(locks=locks) for _ in range(processes)]
        killed, seen = set(), 0
        while live:
            study = running.plan("many", **places)  # a reader, who sees every result whole
            assert not study.damaged
            assert len(study.results) >= seen
            seen, looks = len(study.results), looks + 1
            time.sleep(0.05)
            if when and seen >= when[0]:
                when.pop(0)
                time.sleep(rng.uniform(0, 0.05))
                victim = rng.choice(live)
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
                dealt += 1
            for pid in live[:]:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    live.remove(pid)
                    code = os.waitstatus_to_exitcode(status)
                    assert code == 0 or pid in killed, (code, sweep.error(pid))
                    if pid in killed and when:
                        live.append(sweep.start(locks=locks))
            if locks:
                sweep.watch()
        assert sweep.finish() == reference
        assert len(sweep.published) == runs
        ends: dict[str, list[int]] = {}
        for line in (sweep.root / "log").read_text().splitlines():
            name, pid = line.split()
            ends.setdefault(name, []).append(int(pid))
        for pids in ends.values():
            excused += sum(pid in killed for pid in pids[:-1])  # killed between the last step and the rename
            doubled += sum(pid not in killed for pid in pids[:-1])
    if locks:
        assert doubled == 0, f"{doubled} runs were trained twice"
    return {
        "repeats": repeats,
        "runs": runs,
        "processes": processes,
        "kills": dealt,
        "locks": locks,
        "unfinished": 0,
        "published twice": 0,
        "trained to the end twice": doubled,
        "the same, its first process killed before it could publish": excused,
        "looks of a reader": looks,
    }


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 3 MB, mounted at a folder; only root can."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def full_disk(scratch: Path) -> dict:
    """Sweeps on a disk with so many bytes left, then with room; then on one that is read-only."""
    reference = Sweep("few", scratch / "undisturbed").finish()
    frees = (0, 10_000, 250_000, 500_000, 750_000)
    for free in frees:
        sweep = Sweep("few", scratch / f"free-{free}")
        with small_disk(sweep.root / "results") as disk:
            sweep.folder.mkdir(parents=True)
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(shutil.disk_usage(disk).free - free))
            pid = sweep.start()
            code, error = wait(pid), sweep.error(pid)
            assert code == 4, (free, code, error)
            assert error.count("error: ") == 1, error
            assert error.splitlines()[-1].startswith(f"rethink-gen: error: {disk}"), error
            assert temporaries(disk) == 0
            sweep.watch()
            ballast.unlink()
            assert sweep.finish() == reference, f"{free} bytes left"
    sweep = Sweep("one", scratch / "read-only")
    with small_disk(sweep.root / "results") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        load = "import sys; from rethink_gen.cli import main as cli; "
        code = load + "sys.exit(cli.main(sys.argv[1:]) + 70 * ('jax' in sys.modules))"
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code, *sweep.command], capture_output=True, text=True, check=False)
        seconds = sum(os.times()[2:4]) - sum(before[2:4])  # of CPU: the machine may have other things to do
        assert done.returncode == 4, done.stderr
        assert str(disk) in done.stderr.splitlines()[-1], done.stderr
        assert seconds < 1
    return {"bytes left": frees, "exit code": 4, "CPU seconds to refuse a read-only disk": round(seconds, 2)}


def preload() -> None:
    """Imports what every command needs; starts no thread, so that forks are safe."""
    import pandas  # noqa: F401
    from sweeps import TinyBatchNorm

    from rethink_gen import registry

    registry.add("model", "tiny_batch_norm", TinyBatchNorm)


def quick(scratch: Path) -> dict:
    """A little of everything, for the test suite."""
    return {
        "kill": anywhere(scratch / "kill", name="few", number=signal.SIGKILL, kills=2, longest=2.0),
        "workers": workers(scratch / "workers", repeats=1, runs=10, processes=2, kills=1),
        "hashes": Sweep("many", scratch / "many", 10).finish(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["anywhere", "steps", "workers", "no-locks", "full-disk", "quick"])
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--act", default="kill", help="kill, or the name of an errno: ENOSPC, EIO")
    parser.add_argument("--every", type=int, default=1, help="of the steps")
    given = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        started = time.monotonic()
        number = signal.SIGKILL if given.signal == "KILL" else signal.SIGTERM
        figures = {
            "anywhere": lambda: anywhere(scratch, name="toy", number=number, kills=given.kills, longest=4.0),
            "steps": lambda: steps(scratch, every=given.every, act=given.act),
            "workers": lambda: workers(scratch, repeats=given.repeats, runs=150, processes=3, kills=12),
            "no-locks": lambda: workers(scratch, repeats=1, runs=50, processes=2, kills=0, locks=False),
            "full-disk": lambda: full_disk(scratch),
            "quick": lambda: quick(scratch),
        }[given.what]()
    print(json.dumps({**figures, "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
