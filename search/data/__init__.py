"""Images for a search: read once into memory, split by seed, augmented in batches."""

from hwprof.search.data.batches import Batches, evaluation_batches
from hwprof.search.data.errors import DataError
from hwprof.search.data.images import Images, Normalisation
from hwprof.search.data.load import Splits, load_images, split_datasets

__all__ = [
    "Batches", "DataError", "Images", "Normalisation", "Splits", "evaluation_batches", "load_images",
    "split_datasets",
]  # fmt: skip
