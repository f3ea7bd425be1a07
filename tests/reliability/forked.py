"""A sweep in a folder of its own whose command is forked, killed and started again, and what it leaves."""

import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from faults import Steps
from frames import own_experiment

SWEEPS = {  # name → the fields of its runs, and its axes
    "toy": (
        "train_size=512, epochs=6",
        'model=("mlp_1x512", "tiny_batch_norm"),'
        ' corruption=("true_labels", "random_labels", "shuffled_pixels"), seed=(0, 1)',
    ),
    "many": ("train_size=64, epochs=1", "seed=range({runs})"),
    "few": ("train_size=256, epochs=3", 'model=("mlp_1x512", "tiny_batch_norm")'),
    "one": ("train_size=128, epochs=1", "seed=(0,)"),
}
ALARM_SECONDS = 600


class Sweep:
    """A command `run NAME` in a folder of its own, started again and again."""

    def __init__(self, name: str, root: Path, runs: int = 0) -> None:
        self.name, self.root = name, root
        (root / "experiments").mkdir(parents=True)
        fields, axes = SWEEPS[name]
        axes = axes.format(runs=runs)
        text = own_experiment(f"batch_size=64, learning_rate=0.01, {fields}", axes, "model", "corruption")
        (root / "experiments" / f"{name}.py").write_text(text)
        self.folder = root / "results" / name / "laptop"
        self.published: dict[Path, tuple[int, int]] = {}

    @property
    def command(self) -> list[str]:
        return ["run", self.name, "--results", f"{self.root}/results", "--experiments", f"{self.root}/experiments"]

    def start(self, *, fatal: int = 0, act: str = "kill", locks: bool = True) -> int:
        """The id of a new process that carries out the command; it logs which runs it trained to the end."""
        ready, begun = os.pipe()
        pid = os.fork()
        if not pid:
            code = 70
            with contextlib.suppress(BaseException):
                signal.alarm(ALARM_SECONDS)
                self.redirect()
                if not locks:
                    import fcntl

                    fcntl.flock = lambda descriptor, operation: None
                if fatal:
                    Steps(self.folder, fatal, act).install()
                from rethink_gen.cli import main
                from rethink_gen.execution import scheduler
                from rethink_gen.training import compilation, trainer

                trainer._CHECKPOINT_SECONDS = 0.0  # after every call
                compilation._STEPS_PER_CALL = 3  # several calls per epoch
                scheduler._SECONDS_BETWEEN_LOOKS = 0.1
                os.write(begun, b".")
                code = main.main(self.command)
            os._exit(code)
        os.close(begun)
        os.read(ready, 1)
        os.close(ready)
        return pid

    def redirect(self) -> None:
        """Output to files, one of them a line for each run whose result begins to be written."""
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(self.root / f"{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        log = os.open(self.root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        write, me = os.write, os.getpid()

        def listen(event: str, arguments: tuple[object, ...]) -> None:
            name = os.path.basename(str(arguments[0])) if event == "open" else ""
            if name.startswith(".") and ".json-" in name:
                write(log, f"{name[1:].partition('.json-')[0]} {me}\n".encode())

        sys.addaudithook(listen)

    def error(self, pid: int) -> str:
        """What a process wrote to stderr."""
        return (self.root / f"{pid}.err").read_text()

    def watch(self) -> int:
        """How many results there are; none that was there has been touched since."""
        for path in self.folder.glob("*.json"):
            about = path.stat()
            seen = self.published.setdefault(path, (about.st_ino, about.st_mtime_ns))
            assert seen == (about.st_ino, about.st_mtime_ns), f"{path} was published twice"
        assert all(path.exists() for path in self.published)
        return len(self.published)

    def hashes(self) -> dict[str, str]:
        """Name → SHA-256 of each result, without the seconds it took, and of the table; nothing else is left."""
        found = {}
        for path in sorted(self.folder.iterdir()):
            if path.name != ".work":
                assert path.suffix in (".json", ".md"), f"{path} is left over"
                content = path.read_bytes()
                if path.suffix == ".json":
                    content = deterministic(json.loads(content))
                found[path.name] = hashlib.sha256(content).hexdigest()
        left = [path for path in (self.folder / ".work").rglob("*") if path.name not in ("table.lock", "figure.lock")]
        assert not left, f"{left} are left over"
        return found

    def finish(self) -> dict[str, str]:
        """Carries out the command to its end."""
        pid = self.start()
        code = wait(pid)
        assert code == 0, (code, self.error(pid))
        self.watch()
        return self.hashes()


def deterministic(content: dict) -> bytes:
    """A result without what the clock says, and the checksum that covers it, and the paths in the command."""
    clock = ("seconds_compile", "seconds_train", "command")
    provenance = {key: value for key, value in content["provenance"].items() if key not in clock}
    return json.dumps({**content, "provenance": provenance, "sha256": ""}, sort_keys=True).encode()


def wait(pid: int) -> int:
    """The exit code of a process; negative: the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
