"""Plays recorded visits back: the target is the path of a table's visits file.

Each session answers with the next recorded visit of its op in this worker process, so a build on
`replay` with the recorded number of processes repeats the decisions of the build that made the file,
without a clock. The calls of a visit are rebuilt from its stored quantiles so that p10 and p50 are
exact, and its CPU share and sentinels are handed through, so that the same visits are clean.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import (
    Artifact,
    Availability,
    Backend,
    Scalar,
    Session,
    Target,
    require_open,
)
from hwprof.errors import BackendError, BackendUnavailable
from hwprof.graph import Graph

# Flat around the 10th percentile and the median, which are exact then for five calls and more.
QUANTILE_KNOTS = (0.0, 0.25, 0.4, 0.6, 0.9, 1.0)


class ReplayBackend(Backend):
    name: ClassVar[str] = "replay"
    targets: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16", "int8")
    computes: ClassVar[bool] = False
    leases_device: ClassVar[bool] = False

    def __init__(self) -> None:
        self._played: dict[str, int] = {}

    @classmethod
    def probe(cls) -> Availability:
        return Availability(True, "1")

    def device(self, target: Target) -> str:
        return "recording"

    def environment(self, target: Target) -> Mapping[str, Scalar]:
        """The recording's hash stands for the runtime.

        Raises:
            BackendUnavailable: the target is not a readable visits file.
        """
        path = Path(target.name)
        if not path.is_file():
            raise BackendUnavailable(
                f"replay plays a recorded visits file, {target.name!r} is none; "
                "pass --target NAME.visits.parquet"
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return {"runtime": "replay", "runtime_version": "1", "recording": digest}

    def compile(self, graph: Graph, target: Target) -> Artifact:
        return Artifact(b"replay")

    def prepare(self, artifact: Artifact, rng: np.random.Generator, target: Target) -> ReplaySession:
        op_id = str(artifact.metadata["op_id"])
        process = int(os.environ.get("HWPROF_PROCESS", "0"))
        visits = recorded_visits(target.name).get((op_id, process), ())
        index = self._played.get(op_id, 0)
        if index >= len(visits):
            raise BackendError(
                f"{target.name} holds {len(visits)} visits of op {op_id} in process {process}, "
                f"visit {index + 1} was asked for"
            )
        self._played[op_id] = index + 1
        return ReplaySession(visits[index])


class ReplaySession(Session):
    """One recorded visit."""

    def __init__(self, visit: Mapping[str, Any]) -> None:
        self._visit: Mapping[str, Any] | None = visit

    def run(self) -> None:
        require_open(self._visit)

    def time_calls(self, count: int, group: int = 1) -> list[int]:
        require_open(self._visit)
        visit: Mapping[str, Any] = self._visit or {}
        p10, p50 = visit["p10_ms"], visit["p50_ms"]
        knots_ms = [p10, p10, p50, p50, visit["p90_ms"], visit["max_ms"]]
        calls_ms = np.interp(np.linspace(0.0, 1.0, count), QUANTILE_KNOTS, knots_ms)
        return [round(ms * 1e6 * group) for ms in calls_ms]

    def recorded_conditions(self) -> Mapping[str, Any]:
        visit: Mapping[str, Any] = self._visit or {}
        return {
            "cpu_share": visit["cpu_share"],
            "switches": visit["switches"],
            "dense_ms": visit["dense_sentinel_ms"],
            "memory_ms": visit["memory_sentinel_ms"],
        }

    def outputs(self) -> list[NDArray[np.generic]]:
        return []

    def input_buffers(self) -> list[NDArray[np.generic]]:
        return []

    def placement(self) -> Mapping[str, int]:
        return {"replay": 1}

    def close(self) -> None:
        self._visit = None


@cache
def recorded_visits(path: str) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Visits by (op id, process), in the order in which they were made.

    Raises:
        BackendError: the file holds visits of several environments or cache states.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    origins = {(row["environment_id"], row["cache"]) for row in table.to_pylist()}
    if len(origins) > 1:
        raise BackendError(f"{path} mixes {len(origins)} environments or cache states; replay wants one")
    visits: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for visit in table.sort_by([("process", "ascending"), ("round", "ascending")]).to_pylist():
        visits.setdefault((visit["op_id"], visit["process"]), []).append(visit)
    return visits
