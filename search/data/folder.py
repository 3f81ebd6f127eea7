"""Images in a folder of class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwprof.search.data.errors import DataError
from hwprof.search.data.source import Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# ImageNet calls the part that results are reported on "val".
PART_FOLDERS = {"train": "train", "validation": "validation", "test": "test", "val": "test"}


def read_folder(path: Path) -> Source:
    """`path/CLASS/IMAGE`, or `path/PART/CLASS/IMAGE` with the parts train, test and validation; where
    there is no test, a folder val is it. Classes are numbered in alphabetical order.

    Raises:
        DataError: there is no image, a part is missing, a part has a class that train lacks, or a folder
            or file cannot be read (names it).
    """
    try:
        return _read_folder(path)
    except OSError as error:
        raise _unreadable(error, path) from None


def _read_folder(path: Path) -> Source:
    parts = {name: path / name for name in PART_FOLDERS if (path / name).is_dir()}
    if "test" in parts and "val" in parts:
        raise DataError(f"{path} has folders test and val; rename val to validation, or remove one")
    if "train" not in parts:
        parts = {"": path}
    classes = _class_names(parts.get("train", path))
    files: list[Path] = []
    labels: list[int] = []
    of_part: list[str] = []
    for name, folder in parts.items():
        there = set(_class_names(folder))
        if unknown := sorted(there - set(classes)):
            raise DataError(f"{folder / unknown[0]} is a class that train does not have")
        for label, class_name in enumerate(classes):
            if class_name not in there:
                continue
            found = sorted(
                file for file in (folder / class_name).iterdir() if file.suffix.lower() in SUFFIXES
            )
            files += found
            labels += [label] * len(found)
            of_part += [PART_FOLDERS.get(name, "")] * len(found)
    if not files:
        raise DataError(
            f"{path} has no images ({', '.join(SUFFIXES)}) in class folders; lay them out as "
            "CLASS/IMAGE or train/CLASS/IMAGE and test/CLASS/IMAGE"
        )
    return Source(
        name=str(path),
        labels=np.asarray(labels, dtype=np.int64),
        parts=np.asarray(of_part, dtype=np.str_) if "train" in parts else None,
        classes=classes,
        read=lambda index: _bytes(files[index]),
        name_of=lambda index: str(files[index]),
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(error, file) from None


def _unreadable(error: OSError, path: Path) -> DataError:
    return DataError(f"{error.filename or path} cannot be read: {error.strerror}; repair or remove it")
