"""Bugs, seeded one at a time: the tests named beside each must fail.

    python tests/reliability/mutations.py          # all
    python tests/reliability/mutations.py fsync    # those whose name holds the word

Each is a replacement of text in a copy of the project, which is tested and thrown away. Prints how many were caught;
fails if one was not, or if a text to be replaced is no longer there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]


class Bug(NamedTuple):
    name: str
    file: str  # in rethink_gen/
    old: str
    new: str
    test: str  # pytest's arguments, in tests/


R = "reliability"
BUGS = [
    Bug("skip the fsync of a file", "atomic.py", "_to_disk(file.fileno())", "pass", f"{R} -k before_it_has_its_name"),
    Bug("skip the fsync of a folder", "atomic.py", "_to_disk(folder)", "pass", f"{R} -k before_it_has_its_name"),
    Bug(
        "reuse a temporary name", "atomic.py", "{secrets.token_hex(8)}", "tmp", f"{R} -k before_it_has_its_name"
    ),
    Bug(
        "write in place", "atomic.py", 'with open(temporary, "xb") as file:', 'with open(path, "wb") as file:',
        "results/test_store.py",
    ),
    Bug(
        "leave what a killed process left", "results/locks.py", "                leftover.unlink()", "                pass",
        f"{R} -k disk_operation",
    ),
    Bug(
        "leave the work of runs that are done", "results/locks.py", 'for lock in (folder / ".work").glob("*.lock"):',
        "for lock in ():", f"{R} -k disk_operation",
    ),
    Bug(
        "lock without a second look", "execution/scheduler.py", "if run not in busy and not published(run)]", "if run not in busy]",
        f"{R} -k passed_over",
    ),
    Bug("do not lock", "results/locks.py", "fcntl.flock(descriptor,", "(lambda *_: 0)(descriptor,", f"{R} -k dead_owner"),
    Bug(
        "take an existing lock file for a live owner", "results/locks.py", "os.O_RDWR | os.O_CREAT | os.O_APPEND",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL", f"{R} -k dead_owner",
    ),
    Bug(
        "skip what others are at instead of waiting", "execution/scheduler.py", "                todo.extend(busy)\n", "",
        f"{R} -k is_waited_for",
    ),
    Bug(
        "overwrite a different result", "results/store.py", "if there and not replace:", "if False:",
        f"{R} -k kept_aside",
    ),
    Bug(
        "remove files before the pack is read back", "study/packing.py", "        if _written(folder) != lines:\n            raise",
        "        if False:\n            raise", "study/test_packing.py -k read_back",
    ),
    Bug(
        "let the line of a pack win over a newer file", "results/packs.py", "        return _content(path), path\n",
        "        raise FileNotFoundError\n", "study/test_packing.py -k 'wins or readers'",
    ),
    Bug(
        "remove a file that has changed since it was packed", "study/packing.py", "or _line(path) != line:", "or False:",
        "study/test_packing.py -k published_while",
    ),
    Bug("shard by Python's hash", "study/running.py", "int(hashlib.sha256(run.id.encode()).hexdigest(), 16)", "hash(run.id)",
        f"{R} -k shards"),
    Bug(
        "drop the momentum at resume", "training/trainer.py", "self.spent = restore(state, arrays),",
        "self.spent = restore(state, arrays)._replace(momentum=state.momentum),", f"{R} -k resumed_at",
    ),
    Bug(
        "drop batch-norm statistics at resume", "training/trainer.py", "self.spent = restore(state, arrays),",
        "self.spent = restore(state, arrays)._replace(batch_stats=state.batch_stats),",
        f"{R} -k resumed_at",
    ),
    Bug(
        "drop the running sums at resume", "training/trainer.py", "self.spent = restore(state, arrays),",
        "self.spent = restore(state, arrays)._replace(running=state.running),", f"{R} -k resumed_at",
    ),
    Bug(
        "measure the start again at resume", "training/trainer.py", ' if due and epoch not in self.curves[run].get("epoch", [])]',
        " if due]",
        f"{R} -k no_row_is_there_twice",
    ),
    Bug(
        "resume from another run's checkpoint", "training/checkpointing.py", "    if differ:\n", "    if False:\n",
        f"{R} -k something_else",
    ),
    Bug(
        "choose the checkpoint by its time", "training/checkpointing.py", 'folder.glob("checkpoint-*.npz")), reverse=True)',
        'folder.glob("checkpoint-*.npz")), key=lambda path: -path.stat().st_mtime)', f"{R} -k clock",
    ),
    Bug(
        "save as often where that is slow", "training/trainer.py", " * max(1.0, self.cost / _CHEAP_SECONDS)", "",
        f"{R} -k take_long",
    ),
    Bug("escape for another format", "analysis/rendering.py", " if escapes is _MARKDOWN else escaped", "", f"{R} -k hostile_names"),
    Bug(
        "give up at a damaged checkpoint", "training/checkpointing.py", 'path.rename(path.with_suffix(".corrupt"))',
        'path.rename(path.with_suffix(".corrupt")); return None', f"{R} -k of_a_checkpoint",
    ),
    Bug("do not check the checksum", "results/store.py", "recorded != _digest(content):", "False:",
        f"{R} -k of_a_result"),
    Bug("load pickles", "training/checkpointing.py", "np.load(io.BytesIO(content), allow_pickle=False)",
        "np.load(io.BytesIO(content), allow_pickle=True)",
        f"{R} -k hostile_checkpoint"),
    Bug("follow links in work in progress", "results/locks.py", "if path.is_symlink():", "if False:", f"{R} -k link_where"),
    Bug("forget a failure", "execution/publishing.py", "failing.save(outcome, folder)", "pass", f"{R} -k that_fails"),
    Bug(
        "exit 0 though runs failed", "cli/commands.py", "    if study.failures:\n", "    if False:\n", f"{R} -k that_fails"
    ),
    Bug(
        "fail one run after the other on a disk that is gone", "execution/scheduler.py", "if isinstance(error, RethinkError | OSError) and not own:",
        "if False:", f"{R} -k stops_the_sweep_at_once",
    ),
    Bug(
        "leave a damaged result out without a word", "results/store.py", "damaged.append(error)", "pass",
        f"{R} -k until_it_is_removed",
    ),
    Bug(
        "let no stop signal through", "execution/stopping.py", "if number and not ended.wait(SECONDS_TO_STOP):", "if False:",
        f"{R} -k while_python_does_not_run",
    ),
    Bug(
        "let a run depend on those before it", "training/trainer.py", "hparams.append(Hparams(randomness.root_key(run.seed),",
        "run_count = globals().setdefault('seen', []); run_count.append(0)\n"
        "            hparams.append(Hparams(randomness.root_key(run.seed + len(run_count)),", f"{R} -k order_and_company",
    ),
    Bug(
        "corrupt the test labels too", "data/corruptions.py", "train=dataset.train._replace(labels=",
        "test=dataset.test._replace(labels=(dataset.test.labels + 1) % dataset.num_classes), "
        "train=dataset.train._replace(labels=", "data/test_corruption_laws.py -k never_touched",
    ),
    Bug(
        "report the running accuracy for that of the training set", "training/measurement.py",
        '"train_accuracy": _ratio(train_sums.correct, train_sums.count)',
        '"train_accuracy": _ratio(running.correct, running.count)', f"{R} -k numpys_own",
    ),
    Bug(
        "use the same order in each epoch", "training/core.py",
        'order(stream(key, "order"), epoch,', 'order(stream(key, "order"), 0,',
        "training/test_core.py -k 'order or epoch'",
    ),
    Bug(
        "use the same chance in each step", "training/core.py",
        'jax.random.fold_in(stream(hparams.key, "augment"), state.step)', 'stream(hparams.key, "augment")',
        "training/test_core.py -k chance",
    ),
    Bug(
        "do not derive the table anew", "study/verification.py", "if table.read_bytes() != study.text().encode():", "if False:",
        f"{R} -k verify_finds",
    ),
    Bug(
        "compare what was trained anew roughly", "study/verification.py", "if _fingerprint(then) == _fingerprint(now):", "if False:",
        f"{R} -k trains_runs_anew",
    ),
]  # fmt: skip


def caught(bug: Bug) -> bool:
    """Whether the tests fail on a copy of the project that has the bug; not by an error of the copy itself."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy")
        for name in ("rethink_gen", "experiments", "tests", "docs"):
            if (PROJECT / name).exists():
                shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PROJECT / "pyproject.toml", copy)
        path = copy / "rethink_gen" / bug.file
        text = path.read_text()
        if bug.old not in text:
            sys.exit(f"{bug.name}: {bug.old!r} is not in {bug.file}; say it as it is now")
        path.write_text(text.replace(bug.old, bug.new))
        command = f"{sys.executable} -m pytest -q -x -p no:cacheprovider {bug.test}"
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, shell=True, cwd=copy / "tests", env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode > 1 or "error" in done.stdout.splitlines()[-1]:
            sys.exit(f"{bug.name}: the tests could not be run\n{done.stdout}{done.stderr}")
        return done.returncode == 1


def main() -> None:
    bugs = [bug for bug in BUGS if all(word in bug.name for word in sys.argv[1:])]
    missed = []
    for bug in bugs:
        found = caught(bug)
        print(f"{'caught' if found else 'MISSED'}  {bug.name}", flush=True)
        missed += [] if found else [bug.name]
    print(f"{len(bugs) - len(missed)} of {len(bugs)} caught")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
