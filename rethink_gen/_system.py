"""Refuses systems on which nothing works, in one sentence, before a module of them is missed."""

import sys

if sys.platform == "win32":
    raise SystemExit("rethink-gen needs Linux or macOS; on Windows, install and run it in WSL: wsl --install")
