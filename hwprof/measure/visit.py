"""Inside the worker: check a compiled op once, and make one visit."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Artifact, Backend, Session, Target
from hwprof.environment import cache_bytes
from hwprof.errors import BackendError, CheckFailed
from hwprof.graph import Graph
from hwprof.measure.messages import Visit, VisitRequest
from hwprof.measure.sentinel import Sentinels

LARGEST_OUTPUT = 1e3
# A sweep of a 32 MiB cache takes ten milliseconds a call, so cold visits time few calls.
COLD_CALLS = 10


def check_outputs(
    backend: Backend, artifact: Artifact, graph: Graph, target: Target
) -> Mapping[str, int]:
    """Run a compiled Graph once, look at its numbers, and return where its nodes ran.

    Raises:
        CheckFailed: a wrong shape, NaN, infinity, denormals or values of 1e3 and more: such numbers
            change the time (denormals: 93 ms instead of 6.3 ms) or mean that another op was compiled.
    """
    with backend.prepare(artifact, np.random.default_rng(0), target) as session:
        session.run()
        placement = dict(session.placement())
        for name, out in zip(graph.outputs, session.outputs(), strict=True):
            _check_output(name, out, graph.shapes[name])
    return placement


def _check_output(name: str, out: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if tuple(out.shape) != tuple(shape):
        raise CheckFailed(f"output {name} has shape {tuple(out.shape)}, the op says {tuple(shape)}")
    values = np.abs(np.asarray(out, dtype=np.float64))
    if not np.isfinite(values).all():
        raise CheckFailed(f"output {name} holds NaN or infinity")
    if values.max(initial=0.0) >= LARGEST_OUTPUT:
        raise CheckFailed(f"output {name} reaches {values.max():.3g}; {LARGEST_OUTPUT:g} is the limit")
    if out.dtype.kind == "f":
        tiny = float(np.finfo(out.dtype.name).tiny)
        denormal = int(((values > 0) & (values < tiny)).sum())
        # float16 has few exponents: an ordinary distribution holds some denormals around zero.
        if denormal > 0.01 * values.size:
            raise CheckFailed(f"output {name} holds {denormal} denormals of {values.size} values")


class Evictor:
    """Puts the caches into the state that a row's `cache` names, before each call.

    `in_chain` sweeps twice the level 2 cache and touches the input again: weights come from further
    away, the activation is fresh, as inside a network. `evicted` sweeps twice the last level.
    """

    def __init__(self) -> None:
        """Raises BackendError where the sizes of the caches are not known."""
        levels = cache_bytes()
        if 2 not in levels:
            raise BackendError("cache sizes cannot be read here; only --cache warm can be measured")
        last = max(levels.values())
        self._small = np.zeros(2 * levels[2] // 8)
        self._large_bytes = 2 * last
        self._large: NDArray[np.float64] | None = None

    def __call__(self, cache: str, session: Session) -> None:
        if cache == "in_chain":
            self._small += 1.0
            for buffer in session.input_buffers():
                buffer.max()
        else:
            if self._large is None:
                self._large = np.zeros(self._large_bytes // 8)
            self._large += 1.0


class Visitor:
    """Makes visits in one worker process."""

    def __init__(self, backend: Backend, target: Target) -> None:
        self._backend = backend
        self._target = target
        self._sentinels = Sentinels() if backend.host_clock else None
        self._evict: Evictor | None = None

    def visit(self, artifact: Artifact, request: VisitRequest) -> Visit:
        """A fresh session, some warm calls, then timed calls for `visit_ms`."""
        rng = np.random.default_rng(list(request.seed))
        started_at = time.time()
        start = time.perf_counter_ns()
        session = self._backend.prepare(artifact, rng, self._target)
        load_ms = (time.perf_counter_ns() - start) / 1e6
        with session:
            collecting = gc.isenabled()
            gc.disable()
            try:
                made = self._timed(session, request, load_ms, started_at)
            finally:
                if collecting:
                    gc.enable()
            recorded = session.recorded_conditions()
        return replace(made, whole_ms=(time.perf_counter_ns() - start) / 1e6, **recorded)

    def _timed(
        self, session: Session, request: VisitRequest, load_ms: float, started_at: float
    ) -> Visit:
        before = self._sentinels.look() if self._sentinels else None
        warm_ns = session.time_calls(request.warm_calls)
        call_ms = min(warm_ns) / 1e6
        group = 1 if request.cache != "warm" else max(1, ceil(request.group_ms / max(call_ms, 1e-6)))
        count = max(request.least_calls, round(request.visit_ms / (call_ms * group)))
        if request.cache != "warm":
            count = min(count, COLD_CALLS)
        switches = _involuntary_switches(self._target.threads)
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        if request.cache == "warm":
            calls_ns = session.time_calls(count, group)
        else:
            calls_ns = self._cold_calls(session, request.cache, count)
        cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
        after_switches = _involuntary_switches(self._target.threads)
        after = self._sentinels.look() if self._sentinels else None
        on_host = self._sentinels is not None
        # With several threads the caller spins while another one waits for its core: its own CPU time
        # says nothing.
        alone = on_host and self._target.threads == 1
        return Visit(
            calls_ns=tuple(calls_ns),
            group=group,
            load_ms=load_ms,
            whole_ms=load_ms,
            cpu_share=cpu / wall if alone else None,
            switches=after_switches - switches if on_host else None,
            dense_ms=min(before[0], after[0]) if before and after else None,
            memory_ms=min(before[1], after[1]) if before and after else None,
            rss_bytes=resident_bytes(),
            started_at=started_at,
        )

    def _cold_calls(self, session: Session, cache: str, count: int) -> list[int]:
        if not self._backend.host_clock:
            return session.time_calls(count)
        if self._evict is None:
            self._evict = Evictor()
        calls_ns = []
        for _ in range(count):
            self._evict(cache, session)
            calls_ns += session.time_calls(1)
        return calls_ns


def _involuntary_switches(threads: int) -> int:
    """Of this thread where it works alone and the system counts per thread, else of the process."""
    import resource  # here: Windows has none, and planning imports this module

    per_thread = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    who = per_thread if threads == 1 else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_nivcsw


def resident_bytes() -> int | None:
    """Resident memory of this process; None where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
