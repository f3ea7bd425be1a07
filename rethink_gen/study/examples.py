"""What runs recorded of examples and of weights: a table of scores, and the records themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen.errors import UsageError, unknown
from rethink_gen.results import kept, store
from rethink_gen.results.records import Records, from_arrays, weights_from_arrays
from rethink_gen.results.result import Result
from rethink_gen.runs import EXAMPLES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def recorded(results: Iterable[Result], what: str = EXAMPLES) -> list[Result]:
    """The results of runs that recorded their examples, or their weights.

    Raises:
      UsageError: there are none.
    """
    found = [result for result in results if what in getattr(result.run, "record", ())]
    if not found:
        way_out = f"train runs that record {what}: Run(record='{what}'), or --record {what}"
        raise UsageError(f"no run here has records of its {what}; {way_out}")
    return found


def read(result: Result, folder: Path) -> Mapping[str, Records]:
    """Split → records of a run, from the file beside its result.

    Raises:
      UsageError: the file is not there. StorageError: it is damaged.
    """
    return from_arrays(*_arrays(result, folder))


def weights(result: Result, folder: Path) -> Mapping[int, Mapping[str, np.ndarray]]:
    """Epoch → weights of a run, from the file beside its result; errors as of `read`."""
    return weights_from_arrays(*_arrays(result, folder))


def _arrays(result: Result, folder: Path) -> tuple[Mapping[str, np.ndarray], Path]:
    """The arrays that a run recorded, and their file."""
    path = store.result_file(folder, result.run)
    file, content = kept.file(path, "records"), kept.read(path, "records", result.provenance)
    if content is None:
        raise UsageError(f"{file} is not there; train the run again with --force or force=True")
    return kept.unpack(content, file), file


def choose(run: str, results: Iterable[Result], what: str = EXAMPLES) -> Result:
    """The only result that recorded its examples, or its weights, and whose id begins so."""
    there = {result.id: result for result in recorded(results, what)}
    matches = [there[run]] if run in there else [each for name, each in there.items() if name.startswith(run)]
    if not matches:
        raise unknown(f"run that recorded its {what}", run, there)
    if len(matches) > 1:
        raise UsageError(f"{len(matches)} runs recorded their {what}, name one: {', '.join(x.id for x in matches)}")
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
