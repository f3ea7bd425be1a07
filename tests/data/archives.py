"""A small CIFAR-10, archives as their publishers make them, and one-line errors, for the tests of data sets."""

import gzip
import io
import json
import shutil
import tarfile

import numpy as np

from rethink_gen.errors import UsageError

NAMES = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}


def random_images(n, shape=(32, 32, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def cifar_members(name, n, seed=0):
    """The files of a CIFAR binary archive with n images, 0.8 n of them to train on; labels count up."""
    images = random_images(n, seed=seed).transpose(0, 3, 1, 2).reshape(n, -1)
    labels = np.arange(n) % int(name.removeprefix("cifar"))
    columns = [labels // 5, labels] if name == "cifar100" else [labels]
    rows = np.column_stack([*columns, images]).astype(np.uint8)
    train, test = rows[: 4 * n // 5], rows[4 * n // 5 :]
    if name == "cifar100":
        return {
            "coarse_label_names.txt": "\n".join(f"coarse{i}" for i in range(20)).encode(),
            "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)).encode(),
            "train.bin": train.tobytes(),
            "test.bin": test.tobytes(),
        }
    batches = {f"data_batch_{i + 1}.bin": part.tobytes() for i, part in enumerate(np.array_split(train, 5))}
    return {"batches.meta.txt": "\n".join("abcdefghij").encode(), **batches, "test_batch.bin": test.tobytes()}


def write_tar(path, members, *, extra=()):
    """A tar.gz of {name: bytes}, then of whole TarInfo entries with their bytes."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info, data in extra:
            archive.addfile(info, io.BytesIO(data))
    return path


def cifar_archive(path, name, n=20, seed=0, **options):
    members = {f"{NAMES[name]}/{file}": data for file, data in cifar_members(name, n, seed).items()}
    return write_tar(path, members, **options)


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def idx_archives(folder, n=20):
    """MNIST's four files with n training and n / 4 test images."""
    folder.mkdir(parents=True)
    for prefix, size, seed in (("train", n, 0), ("t10k", n // 4, 1)):
        images, labels = random_images(size, (28, 28), seed), (np.arange(size) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return folder


def from_folder(folder):
    """A way to fetch that takes files from a folder as they are; what `download` checks is tested by itself."""

    def fetch(address, sha256, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / address.rpartition("/")[2], path)

    return fetch


def rows(split):
    """A split as a set of (image, label): the stored order is tfds's own."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True))


def one_line(error, *parts):
    """Whether the message is a line that names the parts, and its exit code that of its kind."""
    text = str(error.value)
    assert "\n" not in text
    assert all(str(part) in text for part in parts), text
    assert error.value.exit_code == (2 if isinstance(error.value, UsageError) else 3)


def change(folder, file, alter):
    path = folder / file
    content = json.loads(path.read_text())
    alter(content)
    path.write_text(json.dumps(content))
