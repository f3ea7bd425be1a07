"""Numbers the disk operations of a process and, at the n-th, kills it or makes the operation fail.

Every write, flush to disk, rename, removal, lock and new folder below one folder counts, before it and after it, and a
write also half way, for a killed process leaves torn ones. Installed for good: in a process made for it, by fork.
"""

import builtins
import errno
import fcntl
import io
import os
import shutil
import signal
import sys
from pathlib import Path

OPERATIONS = ("open", "fsync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir", "ftruncate", "write", "link")


class Steps:
    """Counts steps from 1; at the one numbered `fatal` it acts: "kill", or the name of an errno such as "ENOSPC"."""

    def __init__(self, folder: Path, fatal: int, act: str, log: int | None = None) -> None:
        self.folder, self.fatal, self.act, self.log, self.count = str(folder), fatal, act, log, 0

    def step(self, what: str, subject: object, *, before: bool) -> None:
        if self.act != "kill" and not before:
            return
        self.count += 1
        if self.log is not None:
            self.write(self.log, f"{self.count} {'before' if before else 'after'} {what} {subject}\n".encode())
        if self.count == self.fatal:
            if self.act == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            number = getattr(errno, self.act)
            raise OSError(number, os.strerror(number), None if isinstance(subject, int) else str(subject))

    def counts(self, subject: object) -> bool:
        """Whether an operation is on the folder: by its path, or by what a descriptor stands for."""
        if isinstance(subject, int):
            try:
                subject = os.readlink(f"/proc/self/fd/{subject}") if sys.platform == "linux" else self.folder
            except OSError:
                return False
        return isinstance(subject, str | os.PathLike) and os.path.abspath(subject).startswith(self.folder)

    def wrapped(self, name, operation):
        def call(subject, *args, **options):
            counts = self.counts(subject) and not (name == "open" and not (args and args[0] & os.O_CREAT))
            if counts:
                self.step(name, subject, before=True)
            value = operation(subject, *args, **options)
            if counts:
                self.step(name, subject, before=False)
            return value

        return call

    def install(self) -> None:
        self.write = os.write
        for name in OPERATIONS:
            setattr(os, name, self.wrapped(name, getattr(os, name)))
        fcntl.flock = self.wrapped("flock", fcntl.flock)
        shutil.rmtree.__globals__["_use_fd_functions"] = False  # with paths, which can be told apart
        steps, plain = self, builtins.open

        class Torn(io.FileIO):
            """A file whose writes may end half way."""

            def write(self, data):
                steps.step("write", self.name, before=True)
                written = super().write(bytes(data[: len(data) // 2]))
                steps.step("write half of", self.name, before=False)
                written += super().write(bytes(data[len(data) // 2 :]))
                steps.step("write", self.name, before=False)
                return written

        def opened(path, mode="r", *args, **options):
            if mode != "xb" or not steps.counts(path):
                return plain(path, mode, *args, **options)
            steps.step("open", path, before=True)
            return io.BufferedWriter(Torn(path, "xb"))

        builtins.open = opened
