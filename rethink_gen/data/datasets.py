"""Load data sets by name: bundled, a user's own, or of tensorflow-datasets (tfds), through a checksummed cache.

tfds.py and download.py read and write the files of tfds. tfds is imported to decode a data set once; afterwards the
cache is opened without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rethink_gen import atomic, registry
from rethink_gen.data import bundled, download
from rethink_gen.data.dataset import PUBLISHED, PUBLISHED_SUMS, Dataset, freeze, unlike_published
from rethink_gen.data.tfds import GENERATED, Folder, Source, cache_folder, data_root, decode, describe, version
from rethink_gen.errors import DataError, StorageError, UsageError, unknown
from rethink_gen.registry import DATASET, dataset_name

logger = logging.getLogger(__name__)
# The data set that this process has read last, by the stamps of its files: many short runs need not read it each time.
_kept: dict[tuple[Any, ...], Dataset] = {}


def load(name: str, *, data_dir: Folder = None) -> Dataset:
    """The data set of that name: bundled, from the cache, or decoded from what tfds prepared in `data_dir`.

    A cache file that is damaged, or older than its source, is decoded again from the source. Without a source it is an
    error.

    Args:
      name: as in tfds, with a dot before the configuration where there is one: `emnist.letters`.
      data_dir: default: the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
      UsageError: there is no data set of that name.
      DataError: it is not there, or damaged, or no image classification data set; the line says what to do.
    """
    name = dataset_name(name)
    if name in bundled.DATASETS:
        return _as_published(bundled.DATASETS[name](), "this installation")
    if name in registry.COMPONENTS["dataset"]:
        return _users(name)
    source = find(name, data_dir)
    if source.streamed:
        raise UsageError(f"{name} is too large to be loaded: it is streamed, to runs that train; see streaming.py")
    stamps = _stamps(source)
    if stamps not in _kept:
        _kept.clear()  # before the next one is read
        _kept[stamps] = _read_or_decode(source)
    return _kept[stamps]


def _read_or_decode(source: Source) -> Dataset:
    if source.folder is None:
        return _as_published(read(source), source.cache)
    if source.cache.exists():
        try:
            about = _about(source.cache)
            if about.source == replace(source, folder=None) and about.content == source.content():
                return _as_published(read(source), source.cache)
            logger.warning("%s is not what was cached: decoding it again", source.folder)
        except DataError:
            logger.warning("%s is damaged: decoding %s again", source.cache, source.folder)
    logger.info("decoding %s", source.folder)
    dataset = _decoded(source)
    try:
        write(source, dataset)
    except DataError as error:
        logger.warning("%s; until then it is decoded again each time", error)
    return dataset


def _stamps(source: Source) -> tuple[Any, ...]:
    """The source, and size, times and inode of its files and of its cache file: what changes if the data do."""
    files = sorted(source.folder.iterdir()) if source.folder else []
    stats = [path.stat() for path in (*files, source.cache) if path.exists()]
    return source, *((each.st_size, each.st_mtime_ns, each.st_ctime_ns, each.st_ino) for each in stats)


def prepare(name: str, *, data_dir: Folder = None, fetch: download.Fetch = download.download) -> Source:
    """Fetches, prepares and decodes a data set, as far as that is still to be done; returns its source.

    Raises:
      UsageError: there is no data set of that name.
      DataError: no network, no space, a wrong checksum, TensorFlow needed and not there; the line says what to do.
    """
    name = dataset_name(name)
    if name not in bundled.DATASETS:
        _check_name(name)
        download.build(name, _root_of(name, data_dir), fetch)
    source = find(name, data_dir)
    if not source.streamed:
        load(name, data_dir=data_dir)
    return source


def present(data_dir: Folder = None) -> list[Source]:
    """Every data set that can be loaded without a network, by name; nothing is decoded."""
    found = {name: _source_of(bundled.DATASETS[name]()) for name in bundled.DATASETS}
    for name in [*registry.COMPONENTS["dataset"]]:
        with contextlib.suppress(DataError, UsageError):  # it cannot be made here; a run of it says why
            found[name] = _source_of(_users(name))
    for path in sorted(filter(version, cache_folder().glob("*.npz")), key=version):
        with contextlib.suppress(DataError):  # `load` and `verify` will say what is wrong with it
            source = _about(path).source
            found[source.name] = source
    for root in (data_root(data_dir), _root_of(GENERATED)):
        for path in (*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")):
            with contextlib.suppress(DataError, UsageError):  # text, audio, or otherwise not for us
                name = ".".join(path.relative_to(root).parts[:-2])
                if DATASET.fullmatch(name) and (source := _search(name, data_dir)):
                    found[name] = source
    return [found[name] for name in sorted(found)]


def verify(name: str, *, data_dir: Folder = None) -> list[str]:
    """Reads a data set and its cache again, and returns a line for each that is right.

    Raises:
      DataError: something is wrong; the line names it.
    """
    name = dataset_name(name)
    if name in bundled.DATASETS:
        return [f"{name}: as published, {load(name).checksum}"]
    source, found = find(name, data_dir), {}
    if source.streamed:
        return [f"{name}: {source.train} + {source.test} images in {source.folder}, read when a run needs them"]
    if source.cache.exists():
        found[source.cache] = _as_published(read(source), source.cache).checksum
    if source.folder:
        found[source.folder] = _decoded(source).checksum
    if len(set(found.values())) > 1:
        raise DataError(f"{' and '.join(map(str, found))} differ; delete the one that you do not trust")
    known = name in PUBLISHED or name in PUBLISHED_SUMS
    return [f"{name}: {'as published' if known else 'intact'}, {path}, {found[path]}" for path in found]


def find(name: str, data_dir: Folder = None) -> Source:
    """The source of a data set: its newest version in `data_dir`, or else in the cache.

    Raises:
      UsageError: there is no data set of that name; DataError: it is not here, or damaged.
    """
    name = dataset_name(name)
    if name in bundled.DATASETS:
        return _source_of(bundled.DATASETS[name]())
    if name in registry.COMPONENTS["dataset"]:
        return _source_of(_users(name))
    _check_name(name)
    root = _root_of(name, data_dir)
    if name == GENERATED and not root.exists():
        download.build(name, root, download.download)
    if source := _search(name, data_dir):
        return source
    if configs := {f"{name}.{path.parts[-3]}" for path in root.joinpath(name).glob("*/*/dataset_info.json")}:
        raise UsageError(f"{name} comes in several configurations; name one of {', '.join(sorted(configs))}")
    if name in download.READERS or name in download.BY_HAND:
        raise download.missing(name, root)
    other = "others of tensorflow-datasets: rethink-gen data prepare NAME"
    raise UsageError(f"{unknown('dataset', name, _nameable())}; {other}")


def _search(name: str, data_dir: Folder) -> Source | None:
    """The newest version of a data set in `data_dir`, or else in the cache; None if there is none."""
    root = _root_of(name, data_dir)
    folders = [path.parent for path in root.joinpath(*name.split(".")).glob("*/dataset_info.json")]
    caches = [] if data_dir else [*cache_folder().glob(f"{name}-*.npz")]
    caches = [path for path in caches if path.name.rpartition("-")[0] == name]
    if folder := max(filter(version, folders), key=version, default=None):
        return describe(name, folder)
    if path := max(filter(version, caches), key=version, default=None):
        return _about(path).source
    return None


def _root_of(name: str, data_dir: Folder = None) -> Path:
    """The folder, as tfds arranges one, that a data set is in."""
    return cache_folder() / "generated" if name == GENERATED else data_root(data_dir)


def names() -> list[str]:
    """The data sets that are present, or can be prepared without TensorFlow."""
    return sorted({*download.READERS, GENERATED, *(source.name for source in present())})


def _check_name(name: str) -> None:
    """Refuses names that could lead out of a folder."""
    if not DATASET.fullmatch(name) or not all(name.split(".")):
        raise unknown("dataset", name, _nameable())


def _nameable() -> list[str]:
    """The names that can be meant where one is not known."""
    return sorted({*names(), *download.BY_HAND})


def _as_published(dataset: Dataset, where: object) -> Dataset:
    """The same data set, after its checksum was compared with the published one."""
    expected = PUBLISHED.get(dataset.name, dataset.checksum)
    if dataset.checksum != expected:
        sums = f"SHA-256 {dataset.checksum[:8]}…, not {expected[:8]}…"
        way_out = "delete it and prepare or install it again"
        raise DataError(f"{dataset.name} in {where} is not the published data set ({sums}); {way_out}")
    return dataset


def _decoded(source: Source) -> Dataset:
    """The data set that tfds prepared in the folder of its source, after it was compared with the published one."""
    dataset = _as_published(freeze(source, *decode(source)), source.folder)
    if why := unlike_published(dataset):
        way_out = "delete it and prepare it again"
        raise DataError(f"{dataset.name} in {source.folder} is not the published data set ({why}); {way_out}")
    return dataset


def holds(path: Path, checksum: str) -> bool:
    """Whether a cache file is there, in which arrays of this checksum are."""
    if path == arrays_file(checksum):
        return path.exists()
    with contextlib.suppress(DataError):
        return _about(path).checksum == checksum
    return False


def write(source: Source, dataset: Dataset) -> None:
    """Writes the cache file atomically."""
    path = source.cache
    facts = {"source": asdict(replace(source, folder=None)), "checksum": dataset.checksum, "content": source.content()}
    about = json.dumps(facts)
    _write_arrays(path, dataset, about=np.array(about))


def _write_arrays(path: Path, dataset: Dataset, **more: np.ndarray) -> None:
    """Writes the arrays of a data set as one .npz file, whole or not at all."""
    arrays = dict(zip(ARRAYS, (*dataset.train, *dataset.test), strict=True))
    try:
        atomic.make_folder(path.parent)
        atomic.sweep(path.parent, ".*.npz-*")
        atomic.write(path, partial(np.savez, **more, **arrays))
    except StorageError as error:
        way_out = "make room there, or set RETHINK_GEN_CACHE to another folder"
        raise DataError(f"cannot write {path}: {error}; {way_out}") from error


def arrays_file(checksum: str) -> Path:
    """The file in the cache that holds a user's data set, for other processes."""
    return cache_folder() / "arrays" / f"{checksum}.npz"


def save_arrays(dataset: Dataset) -> Path:
    """Writes a user's data set to its file in the cache, if it is not there; returns the file."""
    path = arrays_file(dataset.checksum)
    if not path.exists():
        atomic.make_folder(path.parent)
        _write_arrays(path, dataset)
    return path


def load_arrays(name: str, checksum: str, num_classes: int) -> Dataset:
    """The data set in a file that `save_arrays` has left, after its checksum was verified.

    Raises:
      DataError: the file is not there, or damaged.
    """
    path = arrays_file(checksum)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[key] for key in ARRAYS]
        sizes = len(arrays[1]), len(arrays[3])
        dataset = freeze(Source(name, "", arrays[0].shape[1:], num_classes, *sizes), *arrays)
        if dataset.checksum != checksum:
            raise ValueError("its checksum is wrong")
    except Exception as error:  # NumPy and zipfile raise many kinds of errors on damaged bytes
        raise DataError(f"{path} is damaged or missing; delete it and run the same command again") from error
    return dataset


def read(source: Source) -> Dataset:
    """The data set in a cache file, after its checksum was verified: 0.2 s for CIFAR-10, half of it hashing."""
    try:
        with source.cache.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            checksum = json.loads(str(file["about"]))["checksum"]
            dataset = freeze(source, *(file[name] for name in ARRAYS))
        if dataset.checksum != checksum:
            raise ValueError("its checksum is wrong")
    except Exception as error:  # NumPy and zipfile raise many kinds of errors on damaged bytes
        raise _damaged(source.cache, error) from error
    return dataset


class About(NamedTuple):
    """What a cache file says of itself."""

    source: Source  # that was decoded into it
    checksum: str  # of the arrays
    content: str  # of the files of the source; empty where an older version wrote the cache


def _about(path: Path) -> About:
    """Reads a few hundred bytes of a cache file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
        source = Source(**{name: _as_tuple(value) for name, value in about["source"].items()})
        if source.cache != path:
            raise ValueError(f"it holds {source.name} {source.version}")
        return About(source, str(about["checksum"]), str(about.get("content", "")))
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    """The error for a cache file that cannot be used."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(
        f"{path} is damaged ({reason}); delete it and run: rethink-gen data prepare {path.name.rpartition('-')[0]}"
    )


def _as_tuple(value: Any) -> Any:
    """A value from JSON as a frozen dataclass holds it."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _source_of(dataset: Dataset) -> Source:
    """What a data set in memory is, from the data set itself."""
    shape, sizes = dataset.train.images.shape[1:], (len(dataset.train.labels), len(dataset.test.labels))
    return Source(dataset.name, "", shape, dataset.num_classes, *sizes)


def _users(name: str) -> Dataset:
    """A data set that a user has registered: its arrays, or what its function returns, called once."""
    component = registry.find("dataset", name)
    target = component.target
    if isinstance(target, Dataset):
        return target
    if target not in LOADED:
        dataset = target()
        registry.COMPONENTS["dataset"][name] = component  # the function may have registered arrays under its own name
        if not isinstance(dataset, Dataset):
            raise UsageError(f"dataset {name!r} must return a rethink_gen.Dataset, not {type(dataset).__name__}")
        LOADED[target] = replace(dataset, name=name)
    return LOADED[target]


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


# Data sets that users' functions have returned, by function.
LOADED: dict[Callable[[], Dataset], Dataset] = {}
