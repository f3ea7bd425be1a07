"""A folder of very many results → the same results, out of a copy by columns that is read in a second.

The copy is a cache of the user's own: it may be deleted at any time, and is never part of the results. A file is read
and checked anew unless its name, size and times are those that the copy was made of; a damaged one is in no copy. What
no time stamp shows, such as a bit that has decayed on its disk, `verify` finds, which reads every file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic
from rethink_gen.errors import StorageError
from rethink_gen.results import frames, store
from rethink_gen.results.store import Damaged, Result
from rethink_gen.runs import KINDS
from rethink_gen.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


_MANY = 1000  # results in a folder, from which on a copy is worth its room; fewer take a second to read
_FORMAT = 2  # of the copy; one of another version of the suite is not looked at either
_BATCH = 2000  # results in memory as Python has them, while a copy is made
_TYPES = (type(None), bool, int, float, str)  # of what is said of a run
_STAMP = ("size", "changed", "touched")  # of a file: bytes, and when its content and its entry last changed, in ns


def sift(folder: Path) -> tuple[list[Result], list[Damaged]]:
    """As `results.sift`: every result that can be trusted, in the order of names, and what is wrong with the others."""
    there = _stamps(folder)
    if len(there) < _MANY:
        return store.sift(folder)
    path = _copy_of(folder)
    copy = _open_copy(path)
    then = dict(zip(copy["name"], zip(*(copy[name] for name in _STAMP), strict=True), strict=True)) if copy else {}
    parts, damaged = _read(folder, there, sorted(name for name in there if then.get(name) != there[name]))
    kept = [name for name in then if then[name] == there.get(name)]
    if copy is None or parts or len(kept) < len(then):
        copy = _join(copy, kept, parts)
        with suppress(StorageError, OSError):  # a cache that cannot be kept is no reason to fail
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(path, copy.content())
    return [_Stored(copy, i) for i in range(len(copy["name"]))], damaged


def _stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Name → _STAMP, of the files of results in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: _stamp(entry) for entry in entries if entry.name.endswith(".json")}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    """The _STAMP of a file; of what is none, such as a link that leads nowhere, one that no copy has."""
    try:
        stat = entry.stat()
    except OSError:
        return (-1, -1, -1)
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _copy_of(folder: Path) -> Path:
    """Where the copy of a folder is."""
    from rethink_gen.data.tfds import cache_folder  # loads numpy

    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return cache_folder() / "results" / f"{digest}-{__version__}-{_FORMAT}.parquet"


class _Copy:
    """Results by columns; a column is read when it is asked for.

    `name`, _STAMP, `setting`, `seed` and `status` are of a file each; `about NAME` is what a frame says of a run, each
    value as JSON, for their types differ; `head` is JSON of the rest, and `curve NAME` a list of numbers.
    """

    def __init__(self, table: Any) -> None:
        self.table = table  # a pyarrow.Table, or a ParquetFile
        self.lists: dict[str, list[Any]] = {}
        self.parsed: tuple[int, Any] = (-1, None)

    def column(self, name: str) -> Any:
        """A column in one piece."""
        column = self.read([name]).unify_dictionaries().column(name).combine_chunks()
        return column.chunk(0) if hasattr(column, "chunk") else column

    def named(self, kind: str) -> dict[str, Any]:
        """The columns `kind NAME`, by name."""
        schema = self.table.schema if hasattr(self.table, "select") else self.table.schema_arrow
        return {name.partition(" ")[2]: self.column(name) for name in schema.names if name.startswith(f"{kind} ")}

    def read(self, names: list[str] | None = None) -> pa.Table:
        """Some columns, or all."""
        if hasattr(self.table, "select"):
            return self.table.select(names) if names else self.table
        return self.table.read(columns=names)

    def __getitem__(self, name: str) -> list[Any]:
        """A column as Python has it."""
        if name not in self.lists:
            self.lists[name] = self.column(name).to_pylist()
        return self.lists[name]

    @cached_property
    def heads(self) -> pa.Array:
        return self.column("head")

    @cached_property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Metric → where the curve of each run begins and the last one ends, and the curves one after the other."""
        return {
            name: (column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False))
            for name, column in self.named("curve").items()
        }

    def head(self, place: int) -> dict[str, Any]:
        """What there is of one run beside its curves; the last one asked for is kept."""
        if self.parsed[0] != place:
            self.parsed = place, json.loads(self.heads[place].as_py())
        return self.parsed[1]

    def content(self) -> bytes:
        """The copy as a Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        buffer = pa.BufferOutputStream()
        parquet.write_table(self.table, buffer, compression="zstd")
        return buffer.getvalue().to_pybytes()


class _Stored(Result):
    """A result in a copy; all but its place there is looked up when it is asked for."""

    copy: _Copy
    place: int

    def __init__(self, copy: _Copy, place: int) -> None:
        object.__setattr__(self, "copy", copy)
        object.__setattr__(self, "place", place)

    def __getattr__(self, name: str) -> Any:
        """The fields of a Result, which this one is made without."""
        if name == "status":
            return self.copy["status"][self.place]
        if name == "provenance":
            return self.copy.head(self.place)["provenance"]
        if name == "run":
            fields = dict(self.fields)
            return KINDS[fields.pop("kind")](**fields)
        if name == "curves":

            def plain(name, x):
                return None if x != x else int(x) if name in ("epoch", "step") else x

            return {name: [plain(name, x) for x in values.tolist()] for name, values in self.columns.items()}
        raise AttributeError(name)

    @property
    def id(self) -> str:
        return self.copy["name"][self.place].removesuffix(".json")

    @property
    def setting(self) -> str:
        return self.copy["setting"][self.place]

    @property
    def seed(self) -> int:
        return self.copy["seed"][self.place]

    @property
    def fields(self) -> dict[str, Any]:
        return self.copy.head(self.place)["fields"]

    @property
    def summary(self) -> dict[str, float | None]:
        return self.copy.head(self.place)["summary"]

    @property
    def columns(self) -> dict[str, np.ndarray]:
        i = self.place
        parts = {name: values[ends[i] : ends[i + 1]] for name, (ends, values) in self.copy.curves.items()}
        return {name: values for name, values in parts.items() if len(values)}


def _open_copy(path: Path) -> _Copy | None:
    """The copy that is there, unless it is none; it stays what it is also when another process replaces the file."""
    import pyarrow.parquet as parquet

    try:
        copy = _Copy(parquet.ParquetFile(path))
        assert len({len(copy[name]) for name in ("name", *_STAMP, "setting", "seed", "status")}) == 1
        return copy
    except Exception:  # whatever pyarrow raises on what is missing, damaged, or of another kind
        return None


def _read(
    folder: Path, there: dict[str, tuple[int, int, int]], names: list[str]
) -> tuple[list[pa.Table], list[Damaged]]:
    """The results in files by columns, some thousands in a table, and what is wrong with the other files."""
    parts, damaged = [], []
    for start in range(0, len(names), _BATCH):
        sound = []
        for name in names[start : start + _BATCH]:
            try:
                sound.append(store.read(folder / name))
            except Damaged as error:
                damaged.append(error)
        if sound:
            parts.append(_as_table(sound, there))
    return parts, damaged


def _join(copy: _Copy | None, kept: list[str], parts: list[pa.Table]) -> _Copy:
    """A copy with what is kept of an older one, and with these parts."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if copy and kept:
        parts = [copy.read().filter(compute.is_in(copy.column("name"), pa.array(kept))), *parts]
    return _Copy(pa.concat_tables(parts or [_as_table([], {})], promote_options="default").sort_by("name"))


def _as_table(results: Iterable[Result], there: dict[str, tuple[int, int, int]]) -> pa.Table:
    """Results by columns."""
    import pyarrow as pa

    results = list(results)
    columns: dict[str, Any] = {"name": [f"{result.id}.json" for result in results]}
    columns |= {what: [there[name][i] for name in columns["name"]] for i, what in enumerate(_STAMP)}
    columns |= {what: [getattr(result, what) for result in results] for what in ("setting", "seed", "status")}

    def head(result):
        return {what: getattr(result, what) for what in ("fields", "summary", "provenance")}

    columns["head"] = [json.dumps(head(result)) for result in results]
    kinds = {"name": pa.string(), "setting": pa.string(), "status": pa.string(), "head": pa.large_string()}
    arrays = {name: pa.array(values, kinds.get(name, pa.int64())) for name, values in columns.items()}
    facts = [{name: json.dumps(value) for name, value in frames.about(result).items()} for result in results]
    for name in dict.fromkeys(name for each in facts for name in each):
        arrays[f"about {name}"] = pa.array([each.get(name) for each in facts], pa.string()).dictionary_encode()
    for name in dict.fromkeys(name for result in results for name in result.curves):
        curves = [result.curves.get(name) for result in results]
        arrays[f"curve {name}"] = pa.array(curves, pa.list_(pa.float64()))
    return pa.table(arrays)


def frame(results: Sequence[Result]) -> pd.DataFrame:
    """As `results.frame`: one row per (run, epoch)."""
    import numpy as np
    import pandas as pd

    if not results or not isinstance(results[0], _Stored):
        return frames.frame(results)
    copy, places = results[0].copy, np.array([result.place for result in results if isinstance(result, _Stored)])
    codes, values, kinds = {}, {}, []
    for name, column in copy.named("about").items():
        codes[name] = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)[places]
        values[name] = [json.loads(value) for value in column.dictionary.to_pylist()]
        kinds.append(np.array([*(_TYPES.index(type(value)) for value in values[name]), -1])[codes[name]])
    begins = {name: ends[places] for name, (ends, _) in copy.curves.items()}
    lengths = {name: ends[places + 1] - begins[name] for name, (ends, _) in copy.curves.items()}
    kinds += [length > 0 for length in lengths.values()]
    alike = np.zeros(len(places), int)  # the same number for runs with the same columns, of the same types
    for kind in kinds:
        alike, _ = pd.factorize(alike * (len(_TYPES) + 1) + kind)
    blocks = []
    for group in range(alike.max() + 1):
        rows = np.flatnonzero(alike == group)
        length = lengths["epoch"][rows]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        runs, curves = {}, {}
        for name in codes:
            code = codes[name][rows]
            if code[0] >= 0:
                used = np.bincount(code, minlength=len(values[name])) > 0
                few = pd.Series([value for value, there in zip(values[name], used, strict=True) if there])
                runs[name] = few.take(np.cumsum(used)[code] - 1).reset_index(drop=True)
        for name, (_, numbers) in copy.curves.items():
            if lengths[name][rows[0]]:
                curves[name] = numbers[np.repeat(begins[name][rows], length) + within]
        blocks.append(frames.Block(rows, length, pd.DataFrame(runs), curves))
    return frames.assemble(blocks)
