"""A benchmark in parts: each is measured alone if it is named, and then the others stay as they were found before."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def measure(
    about: str | None, name: str, parts: Mapping[str, Callable[[], list[dict[str, Any]]]], page: Callable[[Any], str]
) -> None:
    """Measures the parts named on the command line, or all; writes results/<name>.json and, by `page`, .md.

    Args:
      about: the benchmark's docstring, whose first line --help shows.
      parts: the name of each → what measures it, and returns rows.
      page: Markdown of what was found: {part: {"made_by": where and beside what, "rows": rows}}.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    chosen = parser.parse_args().parts or list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"no part named {', '.join(unknown)}; there are {', '.join(parts)}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    for part in chosen:
        made_by = machine()
        rows = parts[part]()
        found = json.loads(path.read_text()) if path.exists() else {}
        found[part] = {"made_by": made_by, "rows": rows}
        path.write_text(json.dumps(found, indent=1) + "\n")
        path.with_suffix(".md").write_text(page({each: found[each] for each in parts if each in found}))
        print(page({part: found[part]}), flush=True)


def machine() -> str:
    """Where and beside what it is measured."""
    load = os.getloadavg()[0]
    python = platform.python_version()
    here = f"{processor()}, {os.cpu_count()} cores, Python {python}"
    return f"{here}, {load:.1f} processes at work on average in the minute before."


def processor() -> str:
    """The name of the processor, and its family and model, which tell apart what has one name."""
    with suppress(OSError):
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        told = {name.strip(): value.strip() for name, _, value in lines}
        return (
            f"{told.get('model name', platform.machine())} (family {told.get('cpu family')}, model {told.get('model')})"
        )
    return platform.processor() or platform.machine()
