"""What crosses the process border between pipeline and worker: JSON-able frozen dataclasses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hwprof.graph import Graph
from hwprof.ops import OpSpec, lower


@dataclass(frozen=True)
class Job:
    """What is compiled and timed as one: an op, a pair of neighbours, a whole network.

    Attributes:
        ops: in the order they run.
        granularity: `op`, `pair` or `network`.
        graph: of a network with branches, whose Graph is no chain of `ops`.
        point: choice indices in the space, where a network's ops alone do not tell them.
    """

    ops: tuple[OpSpec, ...]
    granularity: str = "op"
    graph: Graph | None = None
    point: tuple[int, ...] = ()

    @property
    def job_id(self) -> str:
        """The op's own id, or 20 hex digits of a sha256 over granularity, op ids and Graph."""
        if self.granularity == "op":
            return self.ops[0].op_id
        text = f"{self.granularity}:" + ",".join(op.op_id for op in self.ops)
        if self.graph is not None:
            text += json.dumps(self.graph.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        """Readable; of a network its id, since its ops would fill a page, and its point."""
        if self.granularity == "network":
            point = ".".join(map(str, self.point))
            return f"network_{self.job_id[:8]}" + (f":{point}" if point else "")
        return " -> ".join(op.label for op in self.ops)

    def lower(self) -> Graph:
        """Raises OpError where neighbours' shapes do not meet."""
        return self.graph or lower(self.ops)

    def to_dict(self) -> dict[str, Any]:
        return {
            "ops": [op.to_dict() for op in self.ops],
            "granularity": self.granularity,
            "graph": self.graph.to_dict() if self.graph else None,
            "point": list(self.point),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        graph = Graph.from_dict(data["graph"]) if data["graph"] else None
        ops = tuple(OpSpec.from_dict(op) for op in data["ops"])
        return cls(ops, data["granularity"], graph, tuple(data.get("point", ())))


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker process is told at its start.

    Attributes:
        options: the backend's options, as they were given.
        runs: whether it runs ops; else it only compiles them, for another interpreter.
    """

    backend: str
    target: str
    threads: int
    dtype: str
    options: Mapping[str, str]
    process: int
    cores: tuple[int, ...]
    runs: bool = True

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerConfig:
        data = json.loads(text)
        return cls(**{**data, "cores": tuple(data["cores"])})


@dataclass(frozen=True)
class Checked:
    """What one look at a compiled op told.

    Attributes:
        placement: how many nodes ran on which provider, delegate or device.
        fallback: empty, or what did not run where it should.
        peak_memory_bytes: None with the reason in `peak_memory_source`, which else says how it was read.
        energy_mj: of one call; None with the reason in `energy_reason`.
    """

    placement: Mapping[str, int] = field(default_factory=dict)
    fallback: str = ""
    peak_memory_bytes: int | None = None
    peak_memory_source: str = "not measured"
    energy_mj: float | None = None
    energy_reason: str = "not measured"


@dataclass(frozen=True)
class Compiled:
    """A compiled and checked job.

    Attributes:
        artifact: path of its file.
        tuning: how the backend tuned the code; empty where it did not.
    """

    artifact: str
    compile_ms: float
    tuning: str = ""
    checked: Checked = field(default_factory=Checked)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Compiled:
        return cls(**{**data, "checked": Checked(**data["checked"])})


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
        launch_ms: host time of launching a call on a device, without waiting; None on the host.
        device_mhz, device_throttle, device_temperature_c: a GPU after the timed calls; None elsewhere.
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
    launch_ms: float | None = None
    device_mhz: float | None = None
    device_throttle: str | None = None
    device_temperature_c: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat fields. `dataclasses.asdict` copies every timing one by one: 0.5 ms a visit."""
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Visit:
        return cls(**{**data, "calls_ns": tuple(data["calls_ns"])})
