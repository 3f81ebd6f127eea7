"""The facts that `hwprof doctor` judges, and the half second of looking that gathers them.

Reads files, sleeps, multiplies small matrices; changes nothing on the machine.
"""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hwprof.machine import container, frequency, linux, load, processor, system
from hwprof.machine.files import SystemFiles
from hwprof.machine.frequency import Frequency, Turbo
from hwprof.machine.load import Memory, Neighbours

SAMPLE_S = 0.5
TIMER_READINGS = 2000
MATRIX_SIDE = 64
SLICE_MS = 2.0
WARM_MS = 30.0
WARM_CALLS = 20
NOISE_MS = 200.0


@dataclass(frozen=True)
class Spread:
    """10th and 90th percentile of equal slices of work, in ms."""

    p10_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Facts:
    """What was seen. None, or an empty mapping, means that this system does not tell.

    Attributes:
        cores: cores that this process may use; `machine_cores` those it could use if not pinned.
        core_kinds: core to kind, of all cores.
        core_groups: usable cores grouped by the physical core they share.
        clock: frequencies, read while the noise test's last slice had just ended.
        throttled: thermal throttle events since boot, and during this look.
        timer_tick_ns: smallest step seen between two readings of `time.perf_counter_ns`.
    """

    cores: tuple[int, ...]
    machine_cores: tuple[int, ...]
    timer_tick_ns: int
    noise: Spread
    core_kinds: Mapping[int, str] = field(default_factory=dict)
    core_groups: tuple[tuple[int, ...], ...] | None = None
    cpu_limit: float | None = None
    virtualised: bool | None = None
    neighbours: Neighbours | None = None
    load_1min: float | None = None
    clock: Frequency | None = None
    turbo: Turbo | None = None
    throttled: tuple[int, int] | None = None
    clock_source: str | None = None
    memory: Memory | None = None
    on_battery: bool | None = None
    huge_pages: str | None = None


def gather_facts() -> Facts:
    """Look at this machine for about a second."""
    cores = system.affinity()
    if platform.system() == "Linux":
        return linux_facts(SystemFiles(), cores, os.getpid(), time.sleep, noise_spread)
    conditions = system.conditions()
    averages = conditions["load_average"]
    return Facts(
        cores=cores,
        machine_cores=cores,
        timer_tick_ns=timer_tick_ns(),
        noise=noise_spread(),
        virtualised=system.identity()["virtualised"],
        load_1min=averages[0] if averages else None,
        memory=Memory(
            conditions["memory_total_bytes"],
            conditions["memory_available_bytes"],
            conditions["swap_used_bytes"],
        ),
    )


def linux_facts(
    files: SystemFiles,
    cores: tuple[int, ...],
    own_pid: int,
    sleep: Callable[[float], None],
    noise: Callable[[], Spread],
) -> Facts:
    """From /proc and /sys under `files.root`, with `sleep` between two readings of who is busy."""
    blocks = processor.processor_blocks(files)
    throttled = frequency.throttle_count(files, cores)
    averages = load.load_average(files)
    before = load.read_activity(files, cores, own_pid)
    sleep(SAMPLE_S)
    after = load.read_activity(files, cores, own_pid)
    spread = noise()
    clock = frequency.read_frequency(files, cores)
    return Facts(
        cores=cores,
        machine_cores=linux.group_cores(files) or cores,
        timer_tick_ns=timer_tick_ns(),
        noise=spread,
        core_kinds=processor.core_kinds(files, blocks),
        core_groups=processor.physical_cores(files, cores),
        cpu_limit=container.cpu_limit(files),
        virtualised=container.virtualised(files, blocks),
        neighbours=load.neighbours(before, after) if before and after else None,
        load_1min=averages[0] if averages else None,
        clock=clock,
        turbo=frequency.read_turbo(files, cores),
        throttled=_since(throttled, frequency.throttle_count(files, cores)),
        clock_source=files.text(linux.CLOCK_SOURCE),
        memory=load.read_memory(files),
        on_battery=load.on_battery(files),
        huge_pages=load.chosen_word(files.text(linux.HUGE_PAGES)),
    )


def timer_tick_ns() -> int:
    """The smallest step that `time.perf_counter_ns` shows over some thousand readings, its own cost
    included: no shorter difference can be timed."""
    readings = [time.perf_counter_ns() for _ in range(TIMER_READINGS)]
    start = time.perf_counter_ns()
    while len(set(readings)) < 2 and time.perf_counter_ns() - start < 1_000_000_000:
        readings.append(time.perf_counter_ns())
    steps = (after - before for before, after in itertools.pairwise(readings))
    return min((step for step in steps if step > 0), default=1_000_000_000)


def noise_spread() -> Spread:
    """Times equal slices of small float32 matrix products, small enough to stay on one thread."""
    import numpy as np

    left = np.random.default_rng(0).standard_normal((MATRIX_SIDE, MATRIX_SIDE), dtype=np.float32)
    product = np.empty_like(left)

    def timed(count: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(count):
            np.matmul(left, left, out=product)
        return (time.perf_counter_ns() - start) / 1e6

    warm_ms: list[float] = []
    while sum(warm_ms) < WARM_MS:
        warm_ms.append(timed(WARM_CALLS))
    # The fastest: a neighbour during the warm-up must not shorten the slices.
    per_slice = max(1, round(SLICE_MS * WARM_CALLS / min(warm_ms)))
    slices_ms: list[float] = []
    while sum(slices_ms) < NOISE_MS:
        slices_ms.append(timed(per_slice))
    p10_ms, p90_ms = np.percentile(slices_ms, (10, 90))
    return Spread(float(p10_ms), float(p90_ms))


def _since(before: int | None, after: int | None) -> tuple[int, int] | None:
    """The count now and how much of it is new."""
    return None if before is None or after is None else (after, after - before)
