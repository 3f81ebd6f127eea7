"""A backend without a device: analytic latency plus synthetic noise with known truth.

It makes the scheduler, the stopping rule and the statistics testable without a clock. The target
names the noise. The noise has the three layers found on real machines (measurement notes, section
3): placement (per session and per process), the host's two speeds, and call jitter with a long right
tail; all only add time, so the true latency is the floor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
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
from hwprof.errors import UnsupportedOp
from hwprof.graph import Graph
from hwprof.graph.cost import node_cost
from hwprof.graph.reference import run_reference
from hwprof.graph.weights import random_inputs

PEAK_FLOPS_PER_MS = 5e7
PEAK_BYTES_PER_MS = 1e7
CALL_OVERHEAD_MS = 0.002


@dataclass(frozen=True)
class Noise:
    """Sizes relative to the true latency. `slow_factor` multiplies calls in the host's slow mode."""

    placement: float = 0.0
    process: float = 0.0
    jitter: float = 0.0
    slow_factor: float = 1.0
    slow_share: float = 0.0


NOISES = {
    "exact": Noise(),
    "quiet": Noise(placement=0.01, process=0.003, jitter=0.005),
    "two-speed": Noise(placement=0.01, process=0.003, jitter=0.005, slow_factor=1.11, slow_share=0.5),
    "unstable": Noise(placement=0.25, process=0.1, jitter=0.05, slow_factor=1.3, slow_share=0.7),
}


def true_latency_ms(graph: Graph) -> float:
    """The latency that the noise is added to: each node's roofline of compute and memory, and the
    overhead of a call. A chain costs what its ops cost alone, less the overhead of all but one."""
    costs = [node_cost(graph, node) for node in graph.nodes]
    nodes_ms = sum(max(c.flops / PEAK_FLOPS_PER_MS, c.bytes_moved / PEAK_BYTES_PER_MS) for c in costs)
    return nodes_ms + CALL_OVERHEAD_MS


class SimulatedBackend(Backend):
    name: ClassVar[str] = "simulated"
    targets: ClassVar[tuple[str, ...]] = tuple(NOISES)
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16")
    leases_device: ClassVar[bool] = False

    @classmethod
    def probe(cls) -> Availability:
        return Availability(True, "1")

    def device(self, target: Target) -> str:
        return "simulated"

    def environment(self, target: Target) -> Mapping[str, Scalar]:
        return {"runtime": "simulated", "runtime_version": "1"}

    def compile(self, graph: Graph, target: Target) -> Artifact:
        if target.dtype not in self.dtypes:
            raise UnsupportedOp(
                f"simulated does not compile {target.dtype}; choose of {', '.join(self.dtypes)}"
            )
        if any(node.primitive == "onnx" for node in graph.nodes):
            raise UnsupportedOp("simulated cannot price an opaque ONNX block")
        truth = {"true_ms": true_latency_ms(graph)}
        return Artifact(json.dumps({**truth, "graph": graph.to_dict()}).encode(), truth)

    def prepare(self, artifact: Artifact, rng: np.random.Generator, target: Target) -> SimulatedSession:
        data = json.loads(artifact.data)
        process = np.random.default_rng(
            [int(os.environ.get("HWPROF_PROCESS", "0")) + 1, len(artifact.data)]
        )
        return SimulatedSession(data, NOISES[target.name], rng, process)


class SimulatedSession(Session):
    """Calls take no time; `time_calls` answers from the noise model."""

    def __init__(
        self,
        data: Mapping[str, Any],
        noise: Noise,
        rng: np.random.Generator,
        process: np.random.Generator,
    ) -> None:
        self._graph: Graph | None = Graph.from_dict(data["graph"])
        self._noise = noise
        self._rng = rng
        self._true_ms = float(data["true_ms"])
        placement = rng.exponential(noise.placement) if noise.placement else 0.0
        shared = process.exponential(noise.process) if noise.process else 0.0
        slow = noise.slow_factor if rng.random() < noise.slow_share else 1.0
        self._session_ms = self._true_ms * (1.0 + placement + shared) * slow
        self._inputs = random_inputs(self._graph, rng)

    def run(self) -> None:
        require_open(self._graph)

    def time_calls(self, count: int, group: int = 1) -> list[int]:
        require_open(self._graph)
        jitter = self._rng.exponential(self._noise.jitter or 1e-12, size=count)
        preempted = np.where(self._rng.random(count) < self._noise.jitter, 0.5, 0.0)
        calls_ms = self._session_ms * (1.0 + jitter + preempted)
        return [round(ms * 1e6 * group) for ms in calls_ms]

    def outputs(self) -> list[NDArray[np.generic]]:
        require_open(self._graph)
        return [np.asarray(out) for out in run_reference(self._graph, self._inputs)]  # type: ignore[arg-type]

    def input_buffers(self) -> list[NDArray[np.generic]]:
        return list(self._inputs.values())

    def placement(self) -> Mapping[str, int]:
        require_open(self._graph)
        return {"simulated": len(self._graph.nodes)}  # type: ignore[union-attr]

    def close(self) -> None:
        self._graph = None
