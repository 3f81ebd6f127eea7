"""What crosses the process border between pipeline and worker: JSON-able frozen dataclasses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hwprof.ops import OpSpec


@dataclass(frozen=True)
class Job:
    """A chain of 1..n ops to compile and time as one."""

    ops: tuple[OpSpec, ...]

    @property
    def job_id(self) -> str:
        """The op's own id, or a hash over the ids of a chain."""
        if len(self.ops) == 1:
            return self.ops[0].op_id
        text = "chain:" + ",".join(op.op_id for op in self.ops)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        return " -> ".join(op.label for op in self.ops)

    def to_list(self) -> list[dict[str, Any]]:
        return [op.to_dict() for op in self.ops]

    @classmethod
    def from_list(cls, data: list[dict[str, Any]]) -> Job:
        return cls(tuple(OpSpec.from_dict(op) for op in data))


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker process is told at its start."""

    backend: str
    target: str
    threads: int
    dtype: str
    process: int
    cores: tuple[int, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerConfig:
        data = json.loads(text)
        return cls(**{**data, "cores": tuple(data["cores"])})


@dataclass(frozen=True)
class Compiled:
    """A compiled and checked job. `artifact` is the path of its file."""

    artifact: str
    compile_ms: float
    placement: Mapping[str, int]


@dataclass(frozen=True)
class VisitRequest:
    """One visit to make: which artifact, from which seed, how long, in which cache state."""

    artifact: str
    seed: tuple[int, ...]
    cache: str
    visit_ms: float
    least_calls: int
    group_ms: float
    warm_calls: int


@dataclass(frozen=True)
class Visit:
    """What one visit saw.

    Attributes:
        calls_ns: timings, each of `group` calls.
        load_ms: time to prepare the session.
        whole_ms: the whole visit inside the worker: session, sentinels, warm and timed calls.
        cpu_share: CPU time over wall time of the calling thread while it timed; None off the host.
        switches: involuntary context switches meanwhile; None off the host.
        dense_ms, memory_ms: the sentinels, the lower of before and after; None off the host.
        rss_bytes: resident memory of the worker after the visit.
        started_at: seconds since the epoch.
    """

    calls_ns: tuple[int, ...]
    group: int
    load_ms: float
    whole_ms: float
    cpu_share: float | None
    switches: int | None
    dense_ms: float | None
    memory_ms: float | None
    rss_bytes: int | None
    started_at: float

    def to_dict(self) -> dict[str, Any]:
        """Flat fields. `dataclasses.asdict` copies every timing one by one: 0.5 ms a visit."""
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Visit:
        return cls(**{**data, "calls_ns": tuple(data["calls_ns"])})
