"""Do our timing loops read what the runtime's own tool reads?

    python benchmarks/agreement.py --out benchmarks/results/agreement.json

Blocks of `s3nas`, one thread, one process a backend. Our calls and the tool's alternate, the same
statistic on both sides; the figure is the median over blocks of ours / tool - 1. PyTorch
(`torch.utils.benchmark`) and TVM (`time_evaluator`) time the very session that we time.
`litert-benchmark` opens a model of its own, through LiteRT's other interface, so a fresh session of ours
alternates with a fresh one of the tool's. ONNX Runtime's profiler is shown with what it adds to a call.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import print_table, write_result
from side_by_side import blocks

from hwprof.backends import load_backend
from hwprof.backends.backend import Artifact, Backend, Session, Target
from hwprof.environment import usable_cores
from hwprof.machine.measuring import measuring_cores
from hwprof.ops import OpSpec

GOAL_PERCENT = 3.0
Pair = tuple[float, float]


def group_of(session: Session, wanted_ms: float = 10.0) -> int:
    """Calls that last about so long."""
    session.time_calls(3)
    return max(1, round(wanted_ms * 1e6 / min(session.time_calls(5))))


def alternate(ours: Callable[[], float], tool: Callable[[], float], times: int) -> list[Pair]:
    """(ours, tool) in ms, each pair close in time, the order within a pair changing."""
    pairs = []
    for number in range(times):
        if number % 2:
            theirs = tool()
            pairs.append((ours(), theirs))
        else:
            pairs.append((ours(), tool()))
    return pairs


def pytorch(backend: Backend, artifact: Artifact, target: Target, times: int) -> list[Pair]:
    """Mean of a group of calls on both sides: that is all that Timer.timeit tells."""
    import torch
    from torch.utils.benchmark import Timer

    with backend.prepare(artifact, np.random.default_rng(0), target) as session:
        group = group_of(session)
        timer = Timer("run()", globals={"run": session.run}, num_threads=1)

        def tool() -> float:
            with torch.inference_mode():
                return float(timer.timeit(group).mean) * 1e3

        return alternate(lambda: session.time_calls(1, group)[0] / group / 1e6, tool, times)


def tvm(backend: Backend, artifact: Artifact, target: Target, times: int) -> list[Pair]:
    """Mean of a group of calls on both sides, of one function of one virtual machine."""
    import tvm as runtime

    session: Any = backend.prepare(artifact, np.random.default_rng(0), target)
    with session:
        group = group_of(session)
        session.run()
        evaluator = session.machine.time_evaluator("hwprof", runtime.cpu(), number=group, repeat=1)
        return alternate(
            lambda: session.time_calls(1, group)[0] / group / 1e6,
            lambda: evaluator().results[0] * 1e3,
            times,
        )


def tflite(backend: Backend, artifact: Artifact, target: Target, times: int) -> list[Pair]:
    """Median of single calls on both sides, each reading of a fresh session."""
    from ai_edge_litert.tools import benchmark_litert_model as tool_module

    # It rounds to 0.01 ms, which is some percent of a block.
    tool_module.round = lambda value, digits: value
    seeds = iter(range(10_000))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "op.tflite"
        model.write_bytes(artifact.data)
        defaults = {"signature": "", "no_cpu": False, "use_gpu": False, "use_npu": False,
                    "require_full_delegation": False, "dispatch_library_path": "",
                    "compiler_plugin_path": "", "runtime_path": "", "result_json": "",
                    "verbose": False, "num_threads": 1}  # fmt: skip
        arguments = SimpleNamespace(model=str(model), warmup_runs=3, num_runs=25, **defaults)

        def tool() -> float:
            with contextlib.redirect_stdout(io.StringIO()):
                return float(tool_module.run_benchmark(arguments)["latency"]["median_ms"])

        def ours() -> float:
            rng = np.random.default_rng(next(seeds))
            with backend.prepare(artifact, rng, target) as session:
                session.time_calls(3)
                return float(np.median(session.time_calls(25))) / 1e6

        return alternate(ours, tool, times)


def onnxruntime(backend: Backend, artifact: Artifact, target: Target, times: int) -> list[Pair]:
    """Median of single calls without and with the profiler, which writes an event a node."""
    from hwprof.backends.onnxruntime_session import (
        HOST_PROVIDER,
        OnnxRuntimeSession,
        make_session,
        session_options,
    )

    def median_ms(session: Session) -> float:
        session.time_calls(3)
        return float(np.median(session.time_calls(25))) / 1e6

    with tempfile.TemporaryDirectory() as folder:
        options = session_options("ORT_DISABLE_ALL", 1, Path(folder) / "profile")
        profiled = make_session(artifact.data, options, [HOST_PROVIDER])
        with (
            backend.prepare(artifact, np.random.default_rng(0), target) as plain,
            OnnxRuntimeSession(profiled, artifact, np.random.default_rng(0)) as watched,
        ):
            pairs = alternate(lambda: median_ms(plain), lambda: median_ms(watched), times)
        profiled.end_profiling()
    return pairs


TOOLS: dict[str, tuple[str, str, Callable[..., list[Pair]]]] = {
    "pytorch": ("cpu", "torch.utils.benchmark", pytorch),
    "tvm": ("llvm", "time_evaluator", tvm),
    "tflite": ("cpu", "litert-benchmark", tflite),
    "onnxruntime": ("cpu", "profiler (overhead)", onnxruntime),
}


def compare(name: str, ops: list[OpSpec], times: int) -> Iterator[dict[str, Any]]:
    """One entry a block."""
    target_name, _, pairs_of = TOOLS[name]
    backend, target = load_backend(name), Target(target_name)
    for op in ops:
        pairs = np.array(pairs_of(backend, backend.compile(op.lower(), target), target, times))
        ours_ms, tool_ms = (float(value) for value in np.median(pairs, axis=0))
        yield {
            "label": op.label,
            "ours_ms": ours_ms,
            "tool_ms": tool_ms,
            "percent": 100 * float(np.median(pairs[:, 0] / pairs[:, 1]) - 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--times", type=int, default=12, help="alternations a block")
    parser.add_argument(
        "--backend", choices=list(TOOLS), help="in this process; default: each in its own"
    )
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    if chosen.backend:
        os.sched_setaffinity(0, measuring_cores(usable_cores(), 1))
        entries = list(compare(chosen.backend, blocks(chosen.blocks), chosen.times))
        chosen.out.write_text(json.dumps(entries))
        return
    results, lines = {}, []
    for name, (_, tool, _) in TOOLS.items():
        entries = in_own_process(name, chosen.blocks, chosen.times)
        percents = np.array([entry["percent"] for entry in entries])
        results[name] = {
            "tool": tool,
            "median_percent": float(np.median(percents)),
            "median_absolute_percent": float(np.median(np.abs(percents))),
            "goal_percent": None if name == "onnxruntime" else GOAL_PERCENT,
            "blocks": entries,
        }
        goal = "shown without a bound" if name == "onnxruntime" else f"within {GOAL_PERCENT:g} %"
        lines.append((f"{name} against {tool}", f"{np.median(percents):+.2f} %", goal))
    write_result(chosen.out, {"backends": results})
    print_table(f"ours / tool - 1, median of {chosen.blocks} blocks", lines)


def in_own_process(name: str, count: int, times: int) -> list[dict[str, Any]]:
    """Runtimes disturb each other in one process."""

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "entries.json"
        command = [sys.executable, __file__, "--backend", name, "--blocks", str(count)]
        subprocess.run([*command, "--times", str(times), "--out", str(out)], check=True)
        entries: list[dict[str, Any]] = json.loads(out.read_text())
        return entries


if __name__ == "__main__":
    main()
