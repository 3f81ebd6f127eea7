"""Inside the worker: make one visit, or soak the device before it."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Artifact, Backend, Session, Target
from hwprof.environment import cache_bytes
from hwprof.errors import BackendError
from hwprof.machine.memory import resident_bytes
from hwprof.machine.nvml import Gpu, GpuConditions, open_gpu
from hwprof.measure.messages import Visit, VisitRequest
from hwprof.measure.sentinel import Sentinels

# A sweep of a 32 MiB cache takes ten milliseconds a call, so cold visits time few calls.
COLD_CALLS = 10
LAUNCHES = 5


# A session of a remote device does not live for ever: TVM's server ends one after 15 minutes.
SOAK_SLICE_S = 60.0
# Of a device with a clock of its own: how long it works between two requests.
BUSY_GROUP_MS = 500.0


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
        device = backend.device(target)
        self._on_host = device == "host"
        self._cuda_index = int(device[5:]) if device.startswith("cuda:") else None
        self._gpu: Gpu | None = None
        self._sentinels = Sentinels() if self._on_host else None
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

    def soak(self, artifact: Artifact, seconds: float) -> None:
        """Run back to back for so long, so that clocks and temperature settle under load."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            with self._backend.prepare(artifact, np.random.default_rng(0), self._target) as session:
                keep_busy(session, self._backend.device(self._target), min(left_s, SOAK_SLICE_S))

    def _timed(
        self, session: Session, request: VisitRequest, load_ms: float, started_at: float
    ) -> Visit:
        if self._cuda_index is not None and self._gpu is None:
            # Once CUDA has started, torch tells which GPU it is.
            self._gpu, _ = open_gpu(self._cuda_index)
        before = self._sentinels.look() if self._sentinels else None
        warm_ns = session.time_calls(request.warm_calls)
        call_ms = min(warm_ns) / 1e6
        group_ms = max(request.group_ms, session.least_timing_ms())
        group = 1 if request.cache != "warm" else max(1, ceil(group_ms / max(call_ms, 1e-6)))
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
        gpu = self._gpu.conditions() if self._gpu else GpuConditions(None, None, None, None)
        launches_ns = session.launch_calls(LAUNCHES)
        on_host = self._on_host
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
            launch_ms=float(np.median(launches_ns)) / 1e6 if launches_ns else None,
            device_mhz=gpu.sm_mhz,
            device_throttle=gpu.throttle,
            device_temperature_c=gpu.temperature_c,
        )

    def _cold_calls(self, session: Session, cache: str, count: int) -> list[int]:
        if not self._on_host:
            return self._flushed_calls(session, cache, count)
        if self._evict is None:
            self._evict = Evictor()
        calls_ns = []
        for _ in range(count):
            self._evict(cache, session)
            calls_ns += session.time_calls(1)
        return calls_ns

    @staticmethod
    def _flushed_calls(session: Session, cache: str, count: int) -> list[int]:
        calls_ns = []
        for _ in range(count):
            session.flush(cache)
            calls_ns += session.time_calls(1)
        return calls_ns


def keep_busy(session: Session, device: str, seconds: float) -> int:
    """Run back to back for so long; how many calls it took.

    Not by `time_calls` where `run` is as near: on a GPU each timing begins with a spin that lasts longer
    than a short op. A device behind a network is handed many calls at once.
    """
    end_ns = time.perf_counter_ns() + round(seconds * 1e9)
    calls = 0
    if device == "host" or device.startswith("cuda:"):
        while time.perf_counter_ns() < end_ns:
            session.run()
            calls += 1
        return calls
    call_ms = min(session.time_calls(3)) / 1e6
    while time.perf_counter_ns() < end_ns:
        group = max(1, round(min(BUSY_GROUP_MS, (end_ns - time.perf_counter_ns()) / 1e6) / call_ms))
        session.time_calls(1, group)
        calls += group
    return calls


def _involuntary_switches(threads: int) -> int:
    """Of this thread where it works alone and the system counts per thread, else of the process."""
    import resource  # here: Windows has none, and planning imports this module

    per_thread = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    who = per_thread if threads == 1 else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_nivcsw
