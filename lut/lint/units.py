"""Times that look like another unit: 10^3 or 10^6 too small or too large."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwprof.environment import Environment
from hwprof.lut.lint.finding import Finding
from hwprof.lut.lint.inside import chains
from hwprof.lut.lint.view import Indices, Numbers, View, counted

SHORTEST_MS, LONGEST_MS = 1e-6, 3.6e6
STATISTICS = ("latency_low_ms", "latency_high_ms", "min_ms", "p10_ms", "p50_ms")
STATISTIC_RATIO = 100.0
# 168 pairs and networks on ONNX Runtime take 0.98 to 1.1 times the sum of their ops.
CHAIN_RATIO = 30.0
# What no hardware of 2026 reaches. A thread with matrix instructions does 2e12 FLOP/s in float32 and
# 2e13 in int8, the fastest accelerator 1e16 in int8; a core's nearest cache gives 1e12 bytes/s, an
# accelerator's 2e13. Wrong by 10^3, the best rows of a table are far above.
THREAD_FLOPS, THREAD_SHORT_FLOPS, THREAD_BYTES = 4e12, 4e13, 1e13
ACCELERATOR_FLOPS, ACCELERATOR_BYTES = 2e16, 1e14
CPU_TARGETS = ("cpu", "llvm")
# What the best row of SLOW_ROW_FLOPS or more reaches on any 64-bit core, code of an untuned compiler
# included (2e9 were measured), and on anything. Emulated short floats may take any time.
SLOW_ROW_FLOPS = 1e7
CORE_FLOPS, ANY_FLOPS = 3e8, 1e7
CORES = ("x86_64", "AMD64", "aarch64", "arm64")
EMULATED = ("float16", "bfloat16")
# Decades. Rows of 22 environments follow FLOPs and bytes without an empty stretch above a factor of 6,
# 1,200 draws of 8 to 20 of their rows without one above 24.
FEWEST_ROWS = 8
GAP = 1.8
TRIALS, MOST_ROWS = 300, 2000
SLOPES = (-0.2, 1.2)


def units(view: View) -> Iterator[Finding]:
    """Times that no machine can have, and rows that are far from what their own table says."""
    yield from _absolute(view)
    yield from _own_statistics(view)
    yield from _chains(view)
    for (environment, _, _), rows in view.groups(view.priced, "environment_id", "cache", "dtype"):
        yield from _speed(view, rows, view.where(environment))
        yield from _apart(view, rows, view.where(environment))


def _absolute(view: View) -> Iterator[Finding]:
    latency = view.numbers("latency_ms")
    with np.errstate(invalid="ignore"):
        short, long = (latency > 0) & (latency < SHORTEST_MS), latency > LONGEST_MS
    for flags, what in ((short, "below a nanosecond"), (long, "above an hour")):
        if rows := np.flatnonzero(flags).tolist():
            words = f"latency_ms is {what} in {counted(len(rows), 'row')}: {view.names(rows)}"
            yield Finding("error", "units", words, view.ids(rows))


def _own_statistics(view: View) -> Iterator[Finding]:
    """A latency 100 times another statistic of the same row, or a hundredth of it."""
    latency = view.numbers("latency_ms")
    for name in STATISTICS:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = latency / view.numbers(name)
            bad = (ratio > STATISTIC_RATIO) | ((ratio > 0) & (ratio < 1 / STATISTIC_RATIO))
        if rows := np.flatnonzero(view.usable & bad).tolist():
            words = f"latency_ms is {ratio[rows[0]]:.2g} times {name}"
            words += f" in {counted(len(rows), 'row')}: {view.names(rows)}"
            yield Finding("error", "units", words, view.ids(rows))


def _chains(view: View) -> Iterator[Finding]:
    """Pairs and networks far above the sum of their ops. One far below it takes less than one of its
    ops, which `monotone` says; short of that the overhead of a run, paid once, may explain it."""
    latency = view.numbers("latency_ms")
    ratios = {
        row: float(latency[row] / sum(latency[op] for op in ops if op is not None))
        for row, ops in chains(view)
        if ops and None not in ops
    }
    if rows := [row for row, ratio in ratios.items() if ratio > CHAIN_RATIO]:
        words = f"latency_ms is {ratios[rows[0]]:.2g} times the sum of the ops' own in "
        yield Finding(
            "error", "units", f"{words}{counted(len(rows), 'chain')}: {view.names(rows)}", view.ids(rows)
        )


def _speed(view: View, rows: Indices, where: str) -> Iterator[Finding]:
    """Rows of one environment, cache state and dtype against what hardware can do."""
    seconds = view.numbers("latency_ms")[rows] / 1e3
    flops, moved = view.numbers("flops")[rows], view.numbers("bytes_moved")[rows]
    first = rows[:1]
    on_cpu = view.texts("target", first)[0].startswith(CPU_TARGETS)
    (dtype,) = view.texts("dtype", first)
    most_flops, most_bytes = ACCELERATOR_FLOPS, ACCELERATOR_BYTES
    if on_cpu:
        threads = max(1.0, float(view.numbers("threads")[first[0]]))
        most_flops = threads * (THREAD_FLOPS if dtype == "float32" else THREAD_SHORT_FLOPS)
        most_bytes = threads * THREAD_BYTES
    excess = np.fmax(flops / seconds / most_flops, moved / seconds / most_bytes)
    if (excess > 1).any():
        fast = rows[excess > 1]
        factor = "10^3" if np.nanmax(excess) < 1e3 else "10^6"
        words = f"{counted(len(fast), 'row')}{where} would need above {most_flops:.0e} FLOP/s or "
        words += f"{most_bytes:.0e} bytes/s, so latency_ms looks {factor} times too small: "
        yield Finding("error", "units", words + view.names(fast), view.ids(fast))
    large = flops >= SLOW_ROW_FLOPS
    if not large.any() or dtype in EMULATED:
        return
    best = float((flops[large] / seconds[large]).max())
    least = CORE_FLOPS if on_cpu and _architecture(view, first) in CORES else ANY_FLOPS
    if best < least:
        slow = rows[large]
        words = (
            f"the fastest of {counted(len(slow), 'large row')}{where} does {best:.1e} FLOP/s, such a "
        )
        words += f"device {least:.0e} or more, so latency_ms looks 10^3 times or more too large: "
        yield Finding("warning", "units", words + view.names(slow), view.ids(slow))


def _architecture(view: View, first: Indices) -> str:
    facts = view.lut.environments.get(view.texts("environment_id", first)[0])
    return "" if facts is None else str(Environment.from_dict(facts).identity.get("architecture"))


def _apart(view: View, rows: Indices, where: str) -> Iterator[Finding]:
    """Rows that stand apart from what FLOPs and bytes make of the others."""
    flops, moved = view.numbers("flops")[rows], view.numbers("bytes_moved")[rows]
    known = (flops > 0) & (moved > 0)
    rows, flops, moved = rows[known], flops[known], moved[known]
    if len(rows) < FEWEST_ROWS:
        return
    latency = np.log10(view.numbers("latency_ms")[rows])
    off = latency - _line(np.log10(flops), np.log10(moved), latency)
    order = np.argsort(off)
    gaps = np.diff(off[order])
    at = int(gaps.argmax()) + 1
    if gaps[at - 1] < GAP:
        return
    odd, others = sorted((order[:at], order[at:]), key=len)
    factor = 10 ** float(np.median(off[odd]) - np.median(off[others]))
    apart = rows[np.sort(odd)]
    words = (
        f"{counted(len(odd), 'row')}{where} took about {factor:.0e} times what FLOPs and bytes make of "
    )
    words += f"the other {len(others)}: {view.names(apart)}"
    yield Finding("error", "units", words, view.ids(apart))


def _line(flops: Numbers, moved: Numbers, latency: Numbers) -> Numbers:
    """log latency as a line in log FLOPs and log bytes: of those through three rows, the one with the
    least median error, which up to half of the rows may be far from."""
    rng = np.random.default_rng(0)
    columns = np.column_stack([np.ones_like(flops), flops, moved])
    judges = rng.permutation(len(flops))[:MOST_ROWS]
    best, least = np.full_like(latency, np.median(latency)), np.inf
    for _ in range(TRIALS):
        three = rng.choice(judges, 3, replace=False)
        slopes = np.linalg.lstsq(columns[three], latency[three], rcond=None)[0]
        if not (SLOPES[0] <= slopes[1:]).all() or not (slopes[1:] <= SLOPES[1]).all():
            continue
        line = columns @ slopes
        error = float(np.median(np.abs(latency[judges] - line[judges])))
        if error < least:
            best, least = line, error
    return best
