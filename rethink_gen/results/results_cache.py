"""A columnar cache of result files, so that a folder of thousands of results loads in a second.

The cache is a Parquet file in the user's cache folder. It may be deleted at any time and is never part of the results.
A file, of one result or a pack of many, is read and checked again if its name, size or times differ from those in the
cache. What is damaged is never cached. Changes of a file that leave size and times as they are, such as a flipped bit
on disk, are found by `rethink-gen verify`, which reads every file and does not use the cache. The cache has a checksum
of its own: if that is wrong, it is built anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic
from rethink_gen.errors import StorageError
from rethink_gen.results import frames, packs, store
from rethink_gen.results.result import Result
from rethink_gen.results.store import Damaged
from rethink_gen.runs import KINDS
from rethink_gen.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


_LARGE = 5_000_000  # bytes of results in a folder, about 1000; less is read in a second without a cache
_FORMAT = 8  # version of the cache file; it is also specific to the version of the package
_DIGEST = 32  # bytes of a SHA-256
_BATCH = 2000  # results in memory as Python objects while the cache is built
_TYPES = (type(None), bool, int, float, str)  # of the values of `frames.about`
_STAMP = ("size", "changed", "touched")  # st_size in bytes, st_mtime_ns, st_ctime_ns of a file
Stamp = tuple[int, int, int]
_NONE: Stamp = (0, -1, -1)  # that no file has


def sift(folder: Path) -> tuple[list[Result], list[Damaged]]:
    """Loads all valid results of a folder, in the order of names, and the errors of the damaged ones.

    The same as `store.sift`, but fast for large folders.
    """
    there = _stamps(folder)
    if sum(stamp[0] for stamp in there.values()) < _LARGE:
        return store.sift(folder)
    path = _copy_of(folder)
    copy = _open_copy(path)
    then = dict(zip(copy["file"], zip(*(copy[name] for name in _STAMP), strict=True), strict=True)) if copy else {}
    parts, damaged = _read(folder, there, sorted(name for name in there if then.get(name) != there[name]))
    kept = [name for name in then if then[name] == there.get(name)]
    if copy is None or parts or len(kept) < len(then):
        copy = _join(copy, kept, parts)
        with suppress(StorageError, OSError):  # the cache is optional
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write(path, copy.content())
    counts = [file != packs.FILE or name not in there for file, name in zip(copy["file"], copy["name"], strict=True)]
    return [_Stored(copy, i) for i in range(len(counts)) if counts[i]], damaged


def _stamps(folder: Path) -> dict[str, Stamp]:
    """File name → stamp, for all files of results in a folder; the pack last, as `packs` demands."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: _stamp(entry) for entry in entries if entry.name.endswith(".json")}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    pack = folder / packs.FILE
    return {**found, pack.name: _stamp(pack)} if pack.exists() else found


def _stamp(file: os.DirEntry[str] | Path) -> Stamp:
    """The stamp (see _STAMP) of a file; of one that cannot be read, such as a broken link, _NONE."""
    try:
        stat = file.stat()
    except OSError:
        return _NONE
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _copy_of(folder: Path) -> Path:
    """The path of the cache file of a folder."""
    from rethink_gen.data.tfds import cache_folder  # loads numpy

    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return cache_folder() / "results" / f"{digest}-{__version__}-{_FORMAT}.parquet"


class _Copy:
    """A table of results, one row per result; a column is read on first use.

    Columns are `name`, `file` and those of its _STAMP, `setting`, `seed`, `status`, `dataset` and `checksum`;
    `about NAME`, the values of `frames.about` as JSON, because their types differ; `head`, the fields, summary,
    provenance and bits of examples as JSON; `curve NAME`, lists of numbers.
    """

    def __init__(self, table: Any) -> None:
        self.table = table  # a pyarrow.Table, or a ParquetFile
        self.lists: dict[str, list[Any]] = {}
        self.parsed: tuple[int, Any] = (-1, None)

    def column(self, name: str) -> Any:
        """A column as one pyarrow array."""
        column = self.read([name]).unify_dictionaries().column(name).combine_chunks()
        return column.chunk(0) if hasattr(column, "chunk") else column

    def named(self, kind: str) -> dict[str, Any]:
        """NAME → column, for all columns `kind NAME`."""
        schema = self.table.schema if hasattr(self.table, "select") else self.table.schema_arrow
        return {name.partition(" ")[2]: self.column(name) for name in schema.names if name.startswith(f"{kind} ")}

    def read(self, names: list[str] | None = None) -> pa.Table:
        """A table of some columns, or of all."""
        if hasattr(self.table, "select"):
            return self.table.select(names) if names else self.table
        return self.table.read(columns=names)

    def __getitem__(self, name: str) -> list[Any]:
        """A column as a list of Python values."""
        if name not in self.lists:
            self.lists[name] = self.column(name).to_pylist()
        return self.lists[name]

    @cached_property
    def heads(self) -> pa.Array:
        return self.column("head")

    @cached_property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Metric → (offsets, values): the curve of run i is values[offsets[i] : offsets[i + 1]]."""
        return {
            name: (column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False))
            for name, column in self.named("curve").items()
        }

    def head(self, place: int) -> dict[str, Any]:
        """Fields, summary, provenance and bits of one run; the last one is kept in memory."""
        if self.parsed[0] != place:
            self.parsed = place, json.loads(self.heads[place].as_py())
        return self.parsed[1]

    def content(self) -> bytes:
        """The SHA-256 of a Parquet file, 32 bytes, and the file itself."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        buffer = pa.BufferOutputStream()
        parquet.write_table(self.table, buffer, compression="zstd")
        content = buffer.getvalue().to_pybytes()
        return hashlib.sha256(content).digest() + content


class _Stored(Result):
    """A result in the cache. It looks up its values in the table on use."""

    copy: _Copy
    place: int

    def __init__(self, copy: _Copy, place: int) -> None:
        object.__setattr__(self, "copy", copy)
        object.__setattr__(self, "place", place)

    def __getattr__(self, name: str) -> Any:
        """Looks up the attributes of a Result."""
        if name == "status":
            return self.copy["status"][self.place]
        if name in ("provenance", "correct"):
            return self.copy.head(self.place)[name]
        if name == "run":
            fields = dict(self.fields)
            return KINDS[fields.pop("kind")](**fields)
        if name == "curves":

            def plain(name: str, x: float) -> float | None:
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
    def data(self) -> tuple[str, str]:
        return self.copy["dataset"][self.place], self.copy["checksum"][self.place]

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
    """Opens the cache file, or returns None if it is missing or invalid.

    It is read whole, so that what was checked is what is used.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        copy = _Copy(parquet.ParquetFile(pa.BufferReader(pa.py_buffer(content).slice(_DIGEST))))
        assert len({len(copy[name]) for name in ("name", "file", *_STAMP, "setting", "seed", "status")}) == 1
        return copy
    except Exception:  # pyarrow raises many kinds of errors on missing, damaged or other files
        return None


def _read(folder: Path, there: dict[str, Stamp], names: list[str]) -> tuple[list[pa.Table], list[Damaged]]:
    """Reads files into tables of up to _BATCH results, and collects the errors of damaged results."""
    parts, damaged = [], []
    single = [name for name in names if name != packs.FILE]
    for start in range(0, len(single), _BATCH):
        sound = []
        for name in single[start : start + _BATCH]:
            try:
                sound.append(store.read(folder / name))
            except Damaged as error:
                damaged.append(error)
        if sound:
            parts.append(_as_table(sound, {name: (name, there[name]) for name in single}))
    if packs.FILE in names:
        more, wrong = _read_pack(folder, there)
        parts, damaged = [*parts, *more], [*damaged, *wrong]
    return parts, sorted(damaged, key=lambda error: error.path)


def _read_pack(folder: Path, there: dict[str, Stamp]) -> tuple[list[pa.Table], list[Damaged]]:
    """The same of the lines of a pack: of all, for the file that one line stands behind may be deleted."""
    sound, damaged = [], []
    try:
        lines = packs.lines(folder)
    except Damaged as error:
        return [], [error]
    for name, line in lines.items():
        try:
            sound.append(store.parse(line.content, folder / name, line.place))
        except Damaged as error:
            damaged += [error] * (name not in there)
    origins = dict.fromkeys(lines, (packs.FILE, _NONE if damaged else there[packs.FILE]))
    batches = (sound[start : start + _BATCH] for start in range(0, len(sound), _BATCH))
    return [_as_table(batch, origins) for batch in batches], damaged


def _join(copy: _Copy | None, kept: list[str], parts: list[pa.Table]) -> _Copy:
    """Combines the rows `kept` of an older cache with new parts, sorted by name."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if copy and kept:
        parts = [copy.read().filter(compute.is_in(copy.column("file"), pa.array(kept))), *parts]
    return _Copy(pa.concat_tables(parts or [_as_table([], {})], promote_options="default").sort_by("name"))


def _as_table(results: Iterable[Result], origins: Mapping[str, tuple[str, Stamp]]) -> pa.Table:
    """Converts results to a table, see `_Copy`.

    Args:
      origins: name of a result → its file and the stamp of that.
    """
    import pyarrow as pa

    results = list(results)
    columns: dict[str, Any] = {"name": [f"{result.id}.json" for result in results]}
    columns["file"] = [origins[name][0] for name in columns["name"]]
    columns |= {what: [origins[name][1][i] for name in columns["name"]] for i, what in enumerate(_STAMP)}
    columns |= {what: [getattr(result, what) for result in results] for what in ("setting", "seed", "status")}
    columns |= {what: [result.data[i] for result in results] for i, what in enumerate(("dataset", "checksum"))}

    def head(result: Result) -> dict[str, Any]:
        return {what: getattr(result, what) for what in ("fields", "summary", "provenance", "correct")}

    columns["head"] = [json.dumps(head(result)) for result in results]
    kinds = {"head": pa.large_string()}
    kinds |= {name: pa.string() for name in ("name", "file", "setting", "status", "dataset", "checksum")}
    arrays = {name: pa.array(values, kinds.get(name, pa.int64())) for name, values in columns.items()}
    facts = [{name: json.dumps(value) for name, value in frames.about(result).items()} for result in results]
    for name in dict.fromkeys(name for each in facts for name in each):
        arrays[f"about {name}"] = pa.array([each.get(name) for each in facts], pa.string()).dictionary_encode()
    for name in dict.fromkeys(name for result in results for name in result.curves):
        curves = [result.curves.get(name) for result in results]
        arrays[f"curve {name}"] = pa.array(curves, pa.list_(pa.float64()))
    return pa.table(arrays)


def frame(results: Sequence[Result]) -> pd.DataFrame:
    """Builds a frame with one row per (run, epoch). The same as `frames.frame`, but fast for cached results."""
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
    alike = np.zeros(len(places), int)  # group number: runs with the same columns and types
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
