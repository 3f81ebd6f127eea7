"""Places: a local path or any fsspec URL, and the copies that are kept of what was fetched."""

from __future__ import annotations

from hwprof.lut.places.cache import copy_table
from hwprof.lut.places.local import is_store, local_table, pull_table, pull_to_cache, table_name
from hwprof.lut.places.place import Place, is_url, open_place, shown_url

__all__ = [
    "Place", "copy_table", "is_store", "is_url", "local_table", "open_place", "pull_table",
    "pull_to_cache", "shown_url", "table_name",
]  # fmt: skip
