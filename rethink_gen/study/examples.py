"""Examples of runs that recorded them: a table of scores, and the records themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen.errors import UsageError, unknown
from rethink_gen.results import kept, store
from rethink_gen.results.records import Records, from_arrays
from rethink_gen.results.result import Result
from rethink_gen.runs import EXAMPLES

if TYPE_CHECKING:
    import pandas as pd

WAY_OUT = "record examples: Run(record='examples'), or --record examples"


def recorded(results: Iterable[Result]) -> list[Result]:
    """The results of runs that recorded their examples.

    Raises:
      UsageError: there are none.
    """
    found = [result for result in results if EXAMPLES in getattr(result.run, "record", ())]
    if not found:
        raise UsageError(f"no run here has records of its examples; train runs that {WAY_OUT}")
    return found


def read(result: Result, folder: Path) -> Mapping[str, Records]:
    """Split → records of a run, from the file beside its result.

    Raises:
      UsageError: the file is not there. StorageError: it is damaged.
    """
    path = store.result_file(folder, result.run)
    file, content = kept.file(path, "records"), kept.read(path, "records", result.provenance)
    if content is None:
        raise UsageError(f"{file} is not there; train the run again with --force or force=True")
    return from_arrays(kept.unpack(content, file), file)


def choose(run: str, results: Iterable[Result]) -> Result:
    """The only result that recorded its examples and whose id begins so."""
    there = {result.id: result for result in recorded(results)}
    matches = [there[run]] if run in there else [each for name, each in there.items() if name.startswith(run)]
    if not matches:
        raise unknown("run that recorded its examples", run, there)
    if len(matches) > 1:
        raise UsageError(f"{len(matches)} runs recorded their examples, name one: {', '.join(x.id for x in matches)}")
    return matches[0]


def frame(results: Iterable[Result], folder: Path) -> pd.DataFrame:
    """One row per (run, split, example): run, seed, split, index, label, true_label, and all scores; see `scores`."""
    import numpy as np
    import pandas as pd

    from rethink_gen.results import scores

    parts = []
    for result in recorded(results):
        for split, records in read(result, folder).items():
            columns = {"run": result.id, "seed": result.seed, "split": split, "index": np.arange(len(records.label))}
            labels = {"label": records.label, "true_label": records.true_label}
            parts.append(pd.DataFrame({**columns, **labels, **scores.last(records)}))
    return pd.concat(parts, ignore_index=True)
