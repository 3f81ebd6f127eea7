"""What an importer hands over: numbers of ops, where they are valid, and what could not be read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hwprof.errors import LutError
from hwprof.graph import Graph
from hwprof.lut.rows import chain_columns
from hwprof.ops import OpSpec

MAX_LATENCY_MS = 1e9


@dataclass(frozen=True)
class Network:
    """A whole network as its row's columns. Its Graph is not kept: thousands of them fill the memory."""

    network_id: str
    columns: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, ops: tuple[OpSpec, ...], graph: Graph) -> Network:
        """The network of these ops, in the order they run, under the `op_id` that a build gives it
        (`Job.job_id` of `hwprof.measure`)."""
        text = "network:" + ",".join(map(_op_id, ops)) + json.dumps(graph.to_dict(), sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:20]
        return cls(key, chain_columns(key, f"network_{key[:8]}", ops, graph))


@lru_cache(maxsize=4096)
def _op_id(op: OpSpec) -> str:
    """Networks share their ops, dozens each."""
    return op.op_id


@dataclass(frozen=True)
class Entry:
    """One published number.

    Attributes:
        name: what the source calls it, printable.
        what: the op or network that it is of.
        latency_ms: above 0.
        told: the number as the source gives it, and over how many calls if it says so.
        facts: further columns of the row, from the source.
        source: `imported`, or `derived` where it is a sum of entries.
    """

    name: str
    what: OpSpec | Network
    latency_ms: float
    told: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    source: str = "imported"


@dataclass(frozen=True)
class Part:
    """The entries of one environment.

    Attributes:
        identity: hashed into the `environment_id`.
        doubts: what is not known about the numbers.
        dtype_told: whether the source says the element type; if not, `bytes_moved` is left null.
        cache: cache state of the rows.
        space: search space of the rows, None for none.
    """

    identity: Mapping[str, Any]
    doubts: tuple[str, ...]
    entries: tuple[Entry, ...]
    dtype_told: bool = False
    cache: str = "warm"
    space: str | None = None


@dataclass(frozen=True)
class Read:
    """All of a source. `refused` names what is in no row, each with the reason."""

    parts: tuple[Part, ...]
    refused: tuple[tuple[str, str], ...]


def latency_ms(value: object, per_ms: float = 1.0) -> float:
    """A number of a source as milliseconds.

    Raises:
        LutError: no number, or not above 0 and up to 1e9 ms.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LutError(f"{str(value)[:60]!r} is no number")
    if value == 0:
        raise LutError("0 is no latency")
    try:
        found = value / per_ms
    except OverflowError:
        found = math.inf
    if not 0 < found <= MAX_LATENCY_MS:
        raise LutError(f"{str(value)[:60]} is no latency (above 0 and up to {MAX_LATENCY_MS:g} ms)")
    return found
