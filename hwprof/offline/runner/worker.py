"""Inside a worker process: check a model once, and make one visit after another."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from hwprof.offline.runner.facts import read_text
from hwprof.offline.runner.lines import Refused
from hwprof.offline.runner.session import (
    OnnxSession,
    TfliteSession,
    check_outputs,
    load_runtime,
    require_working,
)


class Worker:
    """Answers requests for the models of one plan."""

    def __init__(self, plan: dict[str, Any], folder: str) -> None:
        self._runtime, self.version = load_runtime(plan["runtime"])
        require_working(self._runtime, plan)
        self._plan, self._folder = plan, folder
        self._ops = {op["id"]: op for op in plan["ops"]}
        self._sentinels = Sentinels(plan["sentinels"])

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        op = self._ops[request["id"]]
        with open(os.path.join(self._folder, op["model"]), "rb") as file:
            model = file.read()
        rng = np.random.default_rng(request["seed"])
        kind = OnnxSession if self._plan["runtime"] == "onnxruntime" else TfliteSession
        started_at, start = time.time(), time.perf_counter_ns()
        session = kind(self._runtime, self._plan, op, model, rng)
        load_ms = (time.perf_counter_ns() - start) / 1e6
        if request["do"] == "check":
            session.run()
            check_outputs(session.outputs(), op["outputs"])
            placement, fallback = session.placement()
            return {"placement": placement, "fallback": fallback}
        gc.disable()
        visit = self._visit(session.run)
        gc.enable()
        del session
        whole_ms = (time.perf_counter_ns() - start) / 1e6
        return {**visit, "load_ms": load_ms, "whole_ms": whole_ms, "started_at": started_at}

    def _visit(self, run: Callable[[], None]) -> dict[str, Any]:
        """Warm calls, then timed calls for the protocol's `visit_ms`, between two looks of sentinels."""
        protocol, threads = self._plan["protocol"], self._plan["threads"]
        before = self._sentinels.look()
        call_ms = min(time_calls(run, protocol["warm_calls"], 1)) / 1e6
        group = max(1, math.ceil(protocol["group_ms"] / max(call_ms, 1e-6)))
        count = max(protocol["least_calls"], round(protocol["visit_ms"] / (call_ms * group)))
        switches = involuntary_switches(threads)
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        calls_ns = time_calls(run, count, group)
        cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
        switched = involuntary_switches(threads)
        after = self._sentinels.look()
        return {
            "calls_ns": calls_ns,
            "group": group,
            # With several threads the caller spins while another one waits: its CPU time says nothing.
            "cpu_share": cpu / wall if threads == 1 else None,
            "switches": None if switched is None or switches is None else switched - switches,
            "dense_ms": min(before[0], after[0]),
            "memory_ms": min(before[1], after[1]),
            "rss_bytes": resident_bytes(),
        }


class Sentinels:
    """Two fixed pieces of work, timed beside every visit: is the device at its usual speed?"""

    def __init__(self, sizes: dict[str, int]) -> None:
        import numpy as np

        rng = np.random.default_rng(0)
        side = sizes["dense_side"]
        self._left = rng.standard_normal((side, side), dtype=np.float32)
        self._right = rng.standard_normal((side, side), dtype=np.float32)
        self._product = np.empty_like(self._left)
        self._source = np.zeros(sizes["memory_bytes"] // 8)
        self._copy = np.empty_like(self._source)
        self._repeats = sizes["dense_repeats"], sizes["memory_repeats"]

    def look(self) -> tuple[float, float]:
        """Milliseconds of the dense and of the memory-bound work, each the lowest of some tries."""
        dense = time_calls(self._multiply, self._repeats[0], 1)
        memory = time_calls(self._move, self._repeats[1], 1)
        return min(dense) / 1e6, min(memory) / 1e6

    def _multiply(self) -> None:
        import numpy as np

        np.matmul(self._left, self._right, out=self._product)

    def _move(self) -> None:
        self._copy[...] = self._source


def time_calls(run: Callable[[], None], count: int, group: int) -> list[int]:
    """`count` timings in nanoseconds, each of `group` calls."""
    clock = time.perf_counter_ns
    timings = []
    for _ in range(count):
        start = clock()
        for _ in range(group):
            run()
        timings.append(clock() - start)
    return timings


def involuntary_switches(threads: int) -> int | None:
    """Of this thread where it works alone and the system counts per thread, else of the process."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    who = resource.RUSAGE_SELF
    if threads == 1:
        who = getattr(resource, "RUSAGE_THREAD", who)
    return resource.getrusage(who).ru_nivcsw


def resident_bytes() -> int | None:
    """Resident memory of this process; None where /proc does not tell."""
    words = (read_text("/proc/self/statm") or "").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if len(words) > 1 else None


def pin(cores: list[int]) -> list[int] | None:
    """Keep this process on the cores. None: the system has no such thing, or keeps an app off them."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        return None
    return sorted(os.sched_getaffinity(0))


def end_with_parent() -> None:
    """Ask Linux to kill this process when run.py dies: one that hangs in a model would go on spinning on
    the measuring core beside the next run. Elsewhere, and in a Python without ctypes, it stays."""
    if sys.platform not in ("linux", "android"):
        return
    set_parent_death_signal, parent = 1, os.getppid()
    try:
        import ctypes

        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    except (ImportError, OSError, AttributeError) as error:
        sys.stderr.write(f"a worker that hangs may outlive a killed run.py: {error}\n")
    if os.getppid() != parent:
        sys.exit(1)


def serve(plan_path: str, cores: list[int]) -> None:
    """Answer requests, one JSON line each, until standard input ends.

    Answers go out through a private copy of standard output, and descriptor 1 is turned to standard
    error: a runtime that prints cannot garble them.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends this process
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    pinned = pin(cores)
    with open(plan_path, encoding="utf-8") as file:
        plan = json.load(file)
    try:
        worker = Worker(plan, os.path.dirname(os.path.abspath(plan_path)))
    except Refused as error:
        send({"refused": str(error)})
        return
    send({"version": worker.version, "pinned": pinned})
    for line in sys.stdin.buffer:
        try:
            send(worker.answer(json.loads(line)))
        except Exception as error:  # noqa: BLE001 - one model's failure must not end the worker
            told = " ".join(str(error).split()) or "no message"
            send({"failure": f"{type(error).__name__}: {told}"[:500]})
