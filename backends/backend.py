"""The contract between hwprof and a runtime: compile a Graph, run it, say where it ran.

A backend never times, averages, retries, caches or writes files: timing and statistics live in
`hwprof.measure` and `hwprof.stats`. A Graph is one op, a chain of ops or a whole network.
"""

from __future__ import annotations

import abc
import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import BackendError, BackendUnavailable
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
class Option:
    """A setting of a backend, given as `--option NAME=VALUE`.

    Attributes:
        default: its value where none is given.
        meaning: one line for `hwprof backends` and the docs.
        choices: what it takes; empty: any text, which the backend checks in `check_target`.
    """

    default: str
    meaning: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """What a backend compiles for: its name for the device, intra-op threads, element type, and the
    options that were given (`Backend.option` reads one, with its default)."""

    name: str
    threads: int = 1
    dtype: str = "float32"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantisation:
    """Scale and zero point of each input and output of an int8 session: a real value is
    `scale * (stored - zero_point)`."""

    inputs: tuple[tuple[float, int], ...]
    outputs: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Artifact:
    """A compiled Graph: bytes that `prepare` can load in another process, and what goes with them.

    `metadata` is JSON-able. The worker adds `op_id`, the id of the op or chain. A backend that tuned
    the code says so in `tuning` (one line: how, how long, which database); it becomes a column.
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
        """The live input buffers, in the Graph's order; writing to them changes the next `run`. Empty
        where they do not lie in this process's memory: `inputs` and `set_inputs` are overridden then."""

    def inputs(self) -> list[NDArray[np.generic]]:
        """Copies of the inputs of the next `run`."""
        return [buffer.copy() for buffer in self.input_buffers()]

    def set_inputs(self, values: Sequence[NDArray[np.generic]]) -> None:
        """Give the next `run` other inputs, of the shapes and types of `inputs`."""
        for buffer, value in zip(self.input_buffers(), values, strict=True):
            buffer[...] = value

    def addresses(self) -> list[int]:
        """Where the inputs lie in memory; empty where that cannot be told."""
        return [buffer.ctypes.data for buffer in self.input_buffers()]

    @abc.abstractmethod
    def placement(self) -> Mapping[str, int]:
        """How many nodes really ran on which provider, delegate or device."""

    def fallback(self) -> str:
        """Empty, or a sentence on nodes that did not run where they should, such as
        `2 of 7 nodes ran on CPUExecutionProvider`. It becomes part of the row's reason."""
        return ""

    def quantisation(self) -> Quantisation | None:
        """How stored values map to real ones; None where they are the same (all but int8)."""
        return None

    def peak_memory(self) -> tuple[int, str] | None:
        """Peak bytes since `prepare` by the runtime's own statistics, and how they were read.

        None: hwprof reads the peak resident memory of the worker process instead.
        """
        return None

    def least_timing_ms(self) -> float:
        """How long one timing must last for this session's clock to be good for about 0.1 %; calls that
        are shorter are timed in groups. 0: the host's clock, for which hwprof knows it."""
        return 0.0

    def launch_calls(self, count: int) -> list[int] | None:
        """`count` timings in nanoseconds of launching a call on a device without waiting for it; the
        device is idle again when this returns. None where the calling thread does the work."""
        return None

    def flush(self, cache: str) -> None:
        """Bring the caches of a device that is not this host into the named state before the next
        call. Called only for states of `Backend.cache_states` other than warm."""
        raise BackendError(f"this session cannot bring its device's caches into the state {cache!r}")

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
        open_targets: whether it takes any other text as a target too, which it checks.
        dtypes: element types that it compiles (for some target).
        options: its settings by name. Whatever changes a number belongs into `environment` too.
        computes: whether `outputs` holds what the Graph computes, so that it can be checked.
        leases_device: whether its timed work needs the machine to itself.
    """

    name: ClassVar[str]
    targets: ClassVar[tuple[str, ...]] = ("cpu",)
    open_targets: ClassVar[bool] = False
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    options: ClassVar[Mapping[str, Option]] = {}
    computes: ClassVar[bool] = True
    leases_device: ClassVar[bool] = True

    @classmethod
    @abc.abstractmethod
    def probe(cls) -> Availability:
        """Is the runtime here? Cheap, imports nothing heavy, never raises."""

    @classmethod
    def option(cls, target: Target, name: str) -> str:
        """The option's value for this target: what was given, else its default."""
        return target.options.get(name, cls.options[name].default)

    def device(self, target: Target) -> str:
        """Where the timed work is done.

        `host`: by the calling thread (and the runtime's own threads) on this machine, so that CPU
        time, sentinels, energy counters and sweeps of the host's caches say something about it.
        `cuda:N`: on that GPU of this machine, read through NVML. Any other word (`remote`,
        `simulated`): elsewhere; the session has its own clock and nothing is read beside it.
        """
        return "host"

    def cache_states(self, target: Target) -> tuple[str, ...]:
        """Cache states that it can be timed in. On `host` hwprof sweeps the caches; elsewhere
        `Session.flush` does."""
        return ("warm", "in_chain", "evicted")

    def compile_limit_s(self, target: Target) -> float | None:
        """How long one compilation may take where it is known to be long (tuning); None: as a visit."""
        return None

    def compiler(self, target: Target) -> Mapping[str, Scalar]:
        """What compiles an op beside the runtime that runs it, as part of the environment: told by the
        interpreter that compiles, which may be another one (`--python`)."""
        return {}

    def release(self) -> None:
        """Give up what this process holds of the device (a connection, cached memory): another worker
        process is about to use it. No session is open."""
        return

    def check_target(self, target: Target) -> None:
        """Import the runtime, and make sure that the device, driver or delegate that the target and
        its options ask for is there. Called in each worker process before its first request.

        Raises:
            BackendUnavailable: what is missing and the command or driver that brings it.
        """
        return

    @abc.abstractmethod
    def environment(self, target: Target) -> Mapping[str, Scalar]:
        """Runtime part of the environment's identity: runtime, version and options. Imports nothing
        heavy. Where `device` is `remote`, it also names the `device`: this machine's own identity is
        left out then.

        Raises:
            BackendUnavailable: the target or an option makes no sense here.
        """

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


def random_values(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Standard normal values. A block of 16,384 of them repeats: drawing every value of a large input
    would take longer than the visit that it is for."""
    block = rng.standard_normal(min(int(np.prod(shape)), RANDOM_BLOCK), dtype=np.float32)
    return np.resize(block, shape)


def fill_random(
    buffer: NDArray[np.generic],
    rng: np.random.Generator,
    quantised: tuple[float, int] | None = None,
) -> None:
    """`random_values` in place; stored with scale and zero point where given."""
    values = random_values(buffer.shape, rng)
    if quantised is not None:
        scale, zero = quantised
        limits = np.iinfo(buffer.dtype.name)
        values = np.clip(np.round(values / np.float32(scale)) + zero, limits.min, limits.max)
    buffer[...] = values


def import_runtime(module: str, install: str) -> Any:
    """The runtime's module.

    Raises:
        BackendUnavailable: it is missing or broken; the message says what installs it.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendUnavailable(f"{module} does not import: {first}; run: {install}") from error


def require_open(session: object | None) -> None:
    """Raise where a closed session is used."""
    if session is None:
        raise BackendError("this session is closed; prepare a new one")
