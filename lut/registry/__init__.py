"""A registry: a folder of tables, at any place, that many may push to at once."""

from __future__ import annotations

from hwprof.lut.registry.entry import Entry, StoredFile
from hwprof.lut.registry.pull import pull_from_registry, registry_to_cache
from hwprof.lut.registry.push import Pushed, push
from hwprof.lut.registry.registry import Listing, Registry, list_tables

__all__ = [
    "Entry", "Listing", "Pushed", "Registry", "StoredFile", "list_tables", "pull_from_registry",
    "push", "registry_to_cache",
]  # fmt: skip
