"""A store: one growing table of many writers, on Delta Lake."""

from __future__ import annotations

from hwprof.lut.store.listing import StoreListing, list_store
from hwprof.lut.store.pull import store_to_cache
from hwprof.lut.store.push import push_to_store
from hwprof.lut.store.store import Appended, Store

__all__ = [
    "Appended", "Store", "StoreListing", "list_store", "push_to_store", "store_to_cache",
]  # fmt: skip
