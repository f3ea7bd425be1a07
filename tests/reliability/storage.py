"""Ends a process at each of its disk operations in turn, then starts it again: what is left is as if nothing had been.

A result that was there is there at any time after, also while it is moved into a pack.

    python tests/reliability/storage.py kill      # killed before and after each, and in the middle of each write
    python tests/reliability/storage.py ENOSPC    # each fails: the disk is full
    python tests/reliability/storage.py EIO

The storage layer alone, in fractions of a second per process; chaos.py does the same to whole commands. Prints a line
of JSON; fails if a promise is broken.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from faults import Steps

from rethink_gen import atomic
from rethink_gen.errors import StorageError
from rethink_gen.results import locks, packs, store
from rethink_gen.runs import Run
from rethink_gen.study import packing
from rethink_gen.training import checkpointing

RUN = Run(dataset="digits")
EPOCHS = 3


def work(folder: Path) -> None:
    """A run of three steps of arithmetic with a checkpoint after each, published, then packed, then a table."""
    atomic.make_folder(folder)
    with locks.claim(folder, RUN.id) as ours:
        if ours and not packs.exists(store.result_file(folder, RUN)):
            own = locks.work_folder(folder, RUN)
            arrays, notes = checkpointing.load_checkpoint(own) or ({"w": np.ones(100)}, {"test_loss": []})
            while len(notes["test_loss"]) < EPOCHS:
                arrays = {"w": arrays["w"] * 1.5 + 1}
                notes = {"test_loss": [*notes["test_loss"], float(arrays["w"][0])]}
                checkpointing.save_checkpoint(own, arrays, notes)
            curves = {"epoch": [*range(EPOCHS)], **dict.fromkeys(("train_accuracy", "test_accuracy"), [0.5] * EPOCHS)}
            about = {"num_train": 1, "num_test": 1}
            store.save(store.Result(RUN, "finished", {**curves, **notes}, about), folder)
    locks.tidy(folder)
    packing.pack_folder(folder)
    with locks.claim(folder, "table", wait=True):
        atomic.write(folder / "table.md", repr(store.load(folder)).encode())


def left(folder: Path) -> dict[str, bytes]:
    """Every file in a folder but for locks that stay."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("table.lock", "runs.lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def in_a_process(folder: Path, *, fatal: int = 0, act: str = "kill", log: int | None = None) -> int:
    """The exit code of a process that works in the folder: 0, 4 for a StorageError, negative: the signal it died of."""
    pid = os.fork()
    if not pid:
        code = 70
        with contextlib.suppress(Exception):
            Steps(folder, fatal, act, log).install()
            try:
                work(folder)
                code = 0
            except StorageError as error:
                code = 4 if str(folder) in str(error) else 71
            except OSError as error:
                code = 4 if str(folder) in str(error) else 72
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(act: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed = Path(scratch, "undisturbed")
        log = os.open(Path(scratch, "log"), os.O_WRONLY | os.O_CREAT)
        assert in_a_process(undisturbed, act=act, log=log) == 0
        reference = left(undisturbed)
        steps = Path(scratch, "log").read_text().splitlines()
        packed = next(number for number, step in enumerate(steps, 1) if f"{packs.LOCK}.lock" in step)
        codes = Counter()
        for number, step in enumerate(steps, 1):
            folder = Path(scratch, "ended")
            code = in_a_process(folder, fatal=number, act=act)
            codes[code] += 1
            assert code in ((-9,) if act == "kill" else (0, 4)), f"exit {code} at step {step}"
            sound, damaged = store.sift(folder)
            assert sound == store.load(undisturbed)[: len(sound)], step
            assert not damaged, step
            assert sound or number < packed, f"lost after step {step}"
            assert in_a_process(folder) == 0, step
            assert left(folder) == reference, f"{sorted(left(folder))} after step {step}"
            shutil.rmtree(folder)
    print(json.dumps({"act": act, "steps": len(steps), "exit codes": codes}))


if __name__ == "__main__":
    main(sys.argv[1])
