"""Training, validation and test images from a file, a folder, or torch Datasets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from hwprof.search.data.dataset import read_dataset
from hwprof.search.data.errors import DataError
from hwprof.search.data.folder import read_folder
from hwprof.search.data.images import Images, Normalisation
from hwprof.search.data.parquet import read_parquet
from hwprof.search.data.source import check_classes

VALIDATION_SHARE = 0.1
TEST_SHARE = 1 / 6


@dataclass(frozen=True)
class Splits:
    """Images to train on, to choose by, and to report on.

    Attributes:
        train, validation, test: no image is in two of them.
        normalisation: of the training images; a found network expects images normalised by it.
    """

    train: Images
    validation: Images
    test: Images
    normalisation: Normalisation

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    def to(self, device: torch.device | str) -> Splits:
        parts = (self.train.to(device), self.validation.to(device), self.test.to(device))
        return Splits(*parts, self.normalisation)

    def whole_train(self) -> Splits:
        """Train and validation images together as `train`, for a last training that chooses nothing; the
        normalisation stays."""
        pixels = torch.cat([self.train.pixels, self.validation.pixels])
        labels = torch.cat([self.train.labels, self.validation.labels])
        return replace(self, train=Images(pixels, labels, self.classes))


def load_images(
    path: Path,
    size: tuple[int, int],
    *,
    classes: int | None = None,
    limit: int | None = None,
    validation_share: float = VALIDATION_SHARE,
    seed: int = 0,
) -> Splits:
    """Read a Parquet file of JPEGs or a folder of class folders; docs/data.md describes both.

    Args:
        path: of either.
        size: (height, width) that images are brought to: of the space's input.
        classes: that the network has.
        limit: read so many images for train and validation together, of each class in its share, and
            of both in theirs where the source has validation images; a larger limit holds the images
            of a smaller one.
        validation_share: of them, taken off train where the source has no validation images.
        seed: of what is taken off, and of what a limit leaves.

    Raises:
        DataError: the data is missing or wrong: a broken image (names row or file), a class without
            images in a part, no images, another number of classes.
    """
    try:
        path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        wrong = "is not there" if missing else f"cannot be read: {error.strerror}"
        raise DataError(
            f"{path} {wrong}; give a Parquet file of JPEGs or a folder of class folders"
        ) from None
    source = read_folder(path) if path.is_dir() else read_parquet(path)
    if classes is not None and classes != len(source.classes):
        raise DataError(
            f"{source.name} has {len(source.classes)} classes, the network {classes}; choose a space "
            f"with `classes: {len(source.classes)}` in its head"
        )
    every = np.arange(len(source.labels))
    parts: dict[str, NDArray[np.int64]] = {}
    if source.parts is not None:
        parts = {str(name): every[source.parts == name] for name in np.unique(source.parts)}
    if "train" not in parts and parts:
        raise DataError(f"{source.name} has no image for train; it has {', '.join(parts)}")
    indices = split_indices(source.name, source.labels, parts, source.classes,
                            limit=limit, validation_share=validation_share, seed=seed)  # fmt: skip
    train, validation, test = (source.images(part, *size) for part in indices)
    return Splits(train, validation, test, Normalisation.of(train))


def split_datasets(
    train: Dataset[Any],
    test: Dataset[Any] | None = None,
    *,
    limit: int | None = None,
    validation_share: float = VALIDATION_SHARE,
    seed: int = 0,
) -> Splits:
    """From torch Datasets of (image, label) with images (3, height, width), uint8 or floats from 0 to 1,
    all of one size. Without `test`, a sixth of `train` is it.

    Raises:
        DataError: an item of another kind (names its index), or as `load_images`.
    """
    images = read_dataset(train, "train")
    parts = {"train": np.arange(len(images))}
    if test is not None:
        more = read_dataset(test, "test")
        if more.pixels.shape[1:] != images.pixels.shape[1:]:
            raise DataError(
                f"test images are {tuple(more.pixels.shape[1:3])}, train images "
                f"{tuple(images.pixels.shape[1:3])}; give one size"
            )
        parts["test"] = np.arange(len(images), len(images) + len(more))
        pixels = torch.cat([images.pixels, more.pixels])
        images = Images(pixels, torch.cat([images.labels, more.labels]), images.classes)
    labels = images.labels.numpy()
    indices = split_indices("the dataset", labels, parts, images.classes,
                            limit=limit, validation_share=validation_share, seed=seed)  # fmt: skip
    chosen = [images.subset(torch.from_numpy(part)) for part in indices]
    return Splits(chosen[0], chosen[1], chosen[2], Normalisation.of(chosen[0]))


def split_indices(
    name: str,
    labels: NDArray[np.int64],
    parts: dict[str, NDArray[np.int64]],
    classes: tuple[str, ...],
    *,
    limit: int | None,
    validation_share: float,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of train, validation and test images. Parts that are not given are taken off train, of
    each class in its share.

    Raises:
        DataError: a share or limit out of range, or a part without an image of each class.
    """
    if not 0.0 < validation_share < 1.0:
        raise DataError(f"validation share must be between 0 and 1, got {validation_share}")
    rest = parts.get("train", np.arange(len(labels)))
    rest = rest[_spread(labels[rest], seed)]
    test = parts.get("test")
    if test is None:
        test, rest = _cut(rest, TEST_SHARE)
    if limit is not None and limit < 2 * len(classes):
        raise DataError(
            f"limit {limit} leaves no image of each of {len(classes)} classes for training and "
            f"validation; give {2 * len(classes)} or more"
        )
    validation = parts.get("validation")
    if limit is not None and validation is not None and limit < len(rest) + len(validation):
        spread = validation[_spread(labels[validation], seed)]
        validation, _ = _cut(spread, limit / (len(rest) + len(validation)))
        rest = rest[: limit - len(validation)]
    if validation is None:
        rest = rest[:limit]
        validation, rest = _cut(rest, validation_share)
    for part, chosen in (("train", rest), ("validation", validation), ("test", test)):
        check_classes(name, part, labels[chosen], classes)
    return rest, validation, test


def _cut(indices: NDArray[np.int64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    count = round(share * len(indices))
    return indices[:count], indices[count:]


def _spread(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random order whose every beginning has the classes in their shares."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    key = np.empty(len(labels))
    for label in np.unique(labels):
        places = np.flatnonzero(labels[shuffled] == label)
        key[places] = (np.arange(len(places)) + 0.5) / len(places)
    order: NDArray[np.int64] = shuffled[np.argsort(key, kind="stable")]
    return order
