"""The contract between hwprof and a runtime: compile a Graph, run it, say where it ran.

A backend never times, averages, retries, caches or writes files: timing and statistics live in
`hwprof.measure` and `hwprof.stats`. A Graph is one op, a chain of ops or a whole network.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import BackendError
from hwprof.graph import Graph

Scalar = str | int | float | bool | None
RANDOM_BLOCK = 16_384


@dataclass(frozen=True)
class Availability:
    """Whether a backend can work here; if not, what is missing and the command that installs it."""

    available: bool
    version: str = ""
    missing: str = ""
    install: str = ""


@dataclass(frozen=True)
class Target:
    """What a backend compiles for: its name for the device, intra-op threads and element type."""

    name: str
    threads: int = 1
    dtype: str = "float32"


@dataclass(frozen=True)
class Artifact:
    """A compiled Graph: bytes that `prepare` can load in another process, and what goes with them.

    `metadata` is JSON-able. The worker adds `op_id`, the id of the op or chain.
    """

    data: bytes
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


class Session(abc.ABC):
    """A loaded artifact with its own newly placed buffers. A context manager; `close` is idempotent."""

    @abc.abstractmethod
    def run(self) -> None:
        """One inference, finished when it returns.

        Raises:
            BackendError: the session is closed or the runtime failed.
        """

    def time_calls(self, count: int, group: int = 1) -> list[int]:
        """`count` timings in nanoseconds, each of `group` calls. Override only for a device clock."""
        clock, run = time.perf_counter_ns, self.run
        timings = []
        for _ in range(count):
            start = clock()
            for _ in range(group):
                run()
            timings.append(clock() - start)
        return timings

    @abc.abstractmethod
    def outputs(self) -> list[NDArray[np.generic]]:
        """Copies of the outputs of the last `run`."""

    @abc.abstractmethod
    def input_buffers(self) -> list[NDArray[np.generic]]:
        """The live input buffers, in the Graph's order; writing to them changes the next `run`."""

    @abc.abstractmethod
    def placement(self) -> Mapping[str, int]:
        """How many nodes really ran on which provider, delegate or device."""

    def recorded_conditions(self) -> Mapping[str, Any]:
        """Only for backends that play recordings: cpu_share, switches, dense_ms and memory_ms of the
        recorded visit. Empty: they are measured live."""
        return {}

    @abc.abstractmethod
    def close(self) -> None:
        """Free the session. A `run` after it raises BackendError."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Backend(abc.ABC):
    """One runtime. Constructed without arguments; importing its module imports no runtime.

    Class attributes:
        name: what `--backend` takes.
        targets: the targets it knows; the first is the default. Empty: any text, which it checks.
        dtypes: element types that it compiles.
        host_clock: whether the calling thread does the work, so that its CPU time, its context
            switches and the host's sentinels say something about a visit.
        caches: cache states that it can be timed in. A host backend gets its caches swept by hwprof.
        computes: whether `outputs` holds what the Graph computes, so that it can be checked.
        leases_device: whether its timed work needs the machine to itself.
    """

    name: ClassVar[str]
    targets: ClassVar[tuple[str, ...]] = ("cpu",)
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    host_clock: ClassVar[bool] = True
    caches: ClassVar[tuple[str, ...]] = ("warm", "in_chain", "evicted")
    computes: ClassVar[bool] = True
    leases_device: ClassVar[bool] = True

    @classmethod
    @abc.abstractmethod
    def probe(cls) -> Availability:
        """Is the runtime here? Cheap, imports nothing heavy, never raises."""

    @abc.abstractmethod
    def environment(self, target: Target) -> Mapping[str, Scalar]:
        """Runtime part of the environment's identity: runtime, version and options."""

    @abc.abstractmethod
    def compile(self, graph: Graph, target: Target) -> Artifact:
        """Compile for the target.

        Raises:
            UnsupportedOp: this backend cannot express a node, the dtype or the target.
            BackendError: the runtime refused; its message is kept.
        """

    @abc.abstractmethod
    def prepare(self, artifact: Artifact, rng: np.random.Generator, target: Target) -> Session:
        """A fresh session: new runtime state and buffers at new places, inputs drawn from `rng`."""


def place_buffer(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], rng: np.random.Generator
) -> NDArray[np.generic]:
    """An array at a random 64-byte-aligned offset in a fresh allocation.

    Where buffers land changes an op's time by 1 % in the median and up to 9 %, so every visit places
    them anew (measurement notes, section 3).
    """
    size = int(np.prod(shape)) * dtype.itemsize
    slack_lines = 1024
    pool = np.empty(size + 64 * (slack_lines + 1), dtype=np.uint8)
    aligned = -pool.ctypes.data % 64
    start = aligned + 64 * int(rng.integers(slack_lines))
    return pool[start : start + size].view(dtype).reshape(shape)


def fill_random(buffer: NDArray[np.generic], rng: np.random.Generator) -> None:
    """Standard normal values, in place. A block of 16,384 of them repeats: drawing every value of a
    large input would take longer than the visit that it is for."""
    block = rng.standard_normal(min(buffer.size, RANDOM_BLOCK), dtype=np.float32)
    buffer[...] = np.resize(block, buffer.shape)


def require_open(session: object | None) -> None:
    """Raise where a closed session is used."""
    if session is None:
        raise BackendError("this session is closed; prepare a new one")
