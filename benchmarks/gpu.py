"""Everything that needs a GPU, in one command and ten minutes: is pytorch right on CUDA, does
its clock agree with plain CUDA events, what do some blocks of `s3nas` take?

    pip install --no-deps --no-build-isolation -e .
    python benchmarks/gpu.py --out benchmarks/results/gpu.json

It needs no package registry: beside torch with CUDA it imports numpy, ml_dtypes, click, pyyaml, pyarrow
and pandas, and nvidia-ml-py for clocks and driver; not onnx, onnxruntime, duckdb or rich.
`mode=compile` also needs g++, triton and the CUDA toolkit's headers, else it is skipped with the reason.
The result is written after each step, a step that fails is listed as broken, and steps that no longer
fit into `--minutes` as skipped. The tables lie in a folder of the result's name beside it. `--target
cuda:1` takes another GPU; `--target cpu` runs what of it makes sense there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result

from hwprof import ops
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import (
    CHECKS,
    DEVICE_CHECKS,
    Check,
    check_chain,
    check_fresh_sessions,
    check_placement,
    run_check,
)
from hwprof.backends.pytorch import PytorchBackend, cuda_index
from hwprof.errors import BackendUnavailable
from hwprof.lut import load_lut
from hwprof.machine.nvml import open_gpu
from hwprof.measure.artifact import write_artifact
from hwprof.measure.messages import VisitRequest
from hwprof.measure.protocol import EFFORTS
from hwprof.measure.visit import Visitor
from hwprof.ops import OpSpec

GOAL_PERCENT = 3.0
GROUPING_GOAL_PERCENT = 1.0
BUILD_S = 35
# A build beyond its budget by so much hangs.
BUILD_LIMIT_S = BUILD_S + 60
# One long group: four times a visit's, and fewer launches than CUDA queues.
LONG_GROUP_NS = 2_000_000
LONGEST_GROUP = 900
TIMES = 15


@dataclass(frozen=True)
class Setting:
    """One way to run: element type, options and cache state."""

    dtype: str = "float32"
    cache: str = "warm"
    options: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        parts = [self.dtype, *self.options.values(), *([] if self.cache == "warm" else [self.cache])]
        return "-".join("tf32" if part == "on" else part for part in parts)


GRAPH = {"mode": "cudagraph"}
CHECKED = [
    *(Setting(dtype, options={"mode": mode})
      for mode in ("eager", "cudagraph") for dtype in ("float32", "float16", "bfloat16")),
    Setting("float16", options={"mode": "eager", "layout": "channels_last"}),
    Setting(options={"mode": "compile"}),
]  # fmt: skip
BUILT = [
    Setting(options={"mode": "eager"}),
    Setting(options=GRAPH),
    Setting("float16", options=GRAPH),
    Setting("float16", options=GRAPH | {"layout": "channels_last"}),
    Setting("bfloat16", options=GRAPH),
    Setting(options=GRAPH | {"tf32": "on"}),
    Setting(cache="evicted", options=GRAPH),
    Setting(options={"mode": "compile"}),
]


def target_of(setting: Setting, name: str) -> Target:
    return Target(name, 1, setting.dtype, setting.options)


def missing(setting: Setting, name: str) -> str:
    """Why this cannot be run here; empty where it can."""
    try:
        PytorchBackend().check_target(target_of(setting, name))
        if setting.cache not in PytorchBackend().cache_states(target_of(setting, name)):
            return f"{name} has no cache state {setting.cache}"
    except BackendUnavailable as error:
        return str(error)
    return ""


def conformance(setting: Setting, name: str) -> dict[str, str]:
    """Failure by check; empty texts mean passed. Compiling takes 10 s a Graph, so few are compiled."""
    checks: tuple[Check, ...] = (*CHECKS, *DEVICE_CHECKS)
    if setting.options.get("mode") == "compile":
        checks = (check_fresh_sessions, check_placement, check_chain)
    backend, target = PytorchBackend(), target_of(setting, name)
    return {check.__name__: run_check(check, backend, target) for check in checks}


def blocks() -> list[OpSpec]:
    """Six MBConv blocks of growing work."""
    return [
        ops.mbconv((1, channels, side, side), channels, 3, 6, se_ratio=0.25)
        for channels, side in ((16, 112), (24, 56), (40, 28), (80, 14), (112, 14), (192, 7))
    ]


def small_ops() -> list[OpSpec]:
    """Of one or two kernels, where the clock's steps and the events' own time show most."""
    return [
        ops.activation((1, 64, 28, 28), "relu"),
        ops.fc((1, 128), 64),
        ops.conv((1, 32, 14, 14), 32, 1),
        ops.pool((1, 64, 14, 14), "avg", 3),
    ]


def visit_group(artifact: Artifact, target: Target, folder: Path) -> int:
    """How many calls a visit of a real build puts into one timing."""
    path, protocol = folder / "artifact", EFFORTS["fast"]
    write_artifact(path, artifact)
    request = VisitRequest(
        str(path), (0,), "warm", protocol.visit_ms, protocol.least_calls, protocol.group_ms,
        protocol.warm_calls,
    )  # fmt: skip
    return Visitor(PytorchBackend(), target).visit(artifact, request).group


def agreement(name: str) -> dict[str, Any]:
    """Timings grouped as visits group them, in turn with one long group, and for blocks with plain CUDA
    events around the same long group: all of replays of one graph, the median of each, times of a call.
    Launching the replay of a block takes less than running it, so that plain events need no spin."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            *(_agreement(op, name, Path(folder), plain=True) for op in blocks()),
            *(_agreement(op, name, Path(folder), plain=False) for op in small_ops()),
        ]
    plain = [abs(row["visits_us"] / row["plain_us"] - 1) * 100 for row in rows if row["plain_us"]]
    grouping = [abs(row["visits_us"] / row["long_us"] - 1) * 100 for row in rows]
    return {
        "plain_events_median_percent": statistics.median(plain),
        "grouping_median_percent": statistics.median(grouping),
        "grouping_worst_percent": max(grouping),
        "ops": rows,
    }


def _agreement(op: OpSpec, name: str, folder: Path, plain: bool) -> dict[str, Any]:
    backend, target = PytorchBackend(), Target(name, options=GRAPH)
    artifact = backend.compile(op.lower(), target)
    group = visit_group(artifact, target, folder)
    session: Any = backend.prepare(artifact, np.random.default_rng(0), target)
    with session:
        call_ns = session.time_calls(1, group)[0] / group
        long = min(LONGEST_GROUP, max(group, round(LONG_GROUP_NS / call_ns)))
        visits_ns, long_ns, plain_ns = [], [], []
        for _ in range(TIMES):
            visits_ns.append(session.time_calls(1, group)[0] / group)
            long_ns.append(session.time_calls(1, long)[0] / long)
            if plain:
                plain_ns.append(_plain_events_ns(session, long) / long)
        launches_ns = session.launch_calls(20)
    return {
        "op": op.label,
        "visit_group": group,
        "long_group": long,
        "visits_us": statistics.median(visits_ns) / 1e3,
        "long_us": statistics.median(long_ns) / 1e3,
        "plain_us": statistics.median(plain_ns) / 1e3 if plain else None,
        "launch_us": statistics.median(launches_ns) / 1e3,
    }


def _plain_events_ns(session: Any, calls: int) -> float:
    """As a user's own script would time so many calls of the session."""
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with session._working() as call:
        start.record(session._stream)
        for _ in range(calls):
            call()
        end.record(session._stream)
        session._stream.synchronize()
    return float(start.elapsed_time(end) * 1e6)


def build(setting: Setting, name: str, limit: int, folder: Path) -> dict[str, Any]:
    """A table by the command line, as a user makes it; its report and its rows in short."""
    out = folder / f"{setting.name}.parquet"
    command = [sys.executable, "-m", "hwprof", "build-lut", "--backend", "pytorch", "--target", name]
    command += ["--space", "s3nas", "--dtype", setting.dtype, "--cache", setting.cache]
    command += ["--effort", "fast", "--limit", str(limit), "--budget", str(BUILD_S), "--fresh"]
    command += ["--out", str(out), "--json"]
    for option, value in setting.options.items():
        command += ["--option", f"{option}={value}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=BUILD_LIMIT_S)
    if not out.exists():
        return {"exit": done.returncode, "report": done.stdout[-500:]}
    table = load_lut(out)
    rows = table.to_pandas()
    columns = ["label", "state", "latency_ms", "latency_low_ms", "latency_high_ms", "launch_ms",
               "peak_memory_bytes", "energy_mj", "load_ms", "reason"]  # fmt: skip
    clocks = table.visits.to_pandas()[["device_mhz", "device_throttle"]].value_counts(dropna=False)
    return {
        "exit": done.returncode,
        "report": json.loads(done.stdout),
        "states": rows.state.value_counts().to_dict(),
        "clocks": {str(key): int(count) for key, count in clocks.items()},
        "rows": json.loads(rows[columns].to_json(orient="records")),
    }


class Report:
    """What has been found so far. Every step writes the whole of it down."""

    def __init__(self, name: str, out: Path, minutes: float) -> None:
        self._name, self._out, self._minutes = name, out, minutes
        self._end = time.monotonic() + 60 * minutes
        self._environment = dict(PytorchBackend().environment(Target(name)))
        self._before = gpu_conditions(name)
        self.agreed: dict[str, Any] = {}
        self.checks: dict[str, dict[str, str]] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self.broken: dict[str, str] = {}

    def step(
        self, found: dict[str, Any], part: str, what: str, reason: str, run: Callable[[], Any]
    ) -> None:
        """Put what `run` gives into `found`, unless there is a reason not to run it or no time."""
        if time.monotonic() > self._end:
            reason = f"after {self._minutes:g} minutes"
        label, start = f"{part} {what}".strip(), time.monotonic()
        if reason:
            self.skipped[label] = reason
        else:
            try:
                found[what or part] = run()
            except Exception as error:  # noqa: BLE001 - whatever it is, the other steps go on
                self.broken[label] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.write()
        print(f"{label}: {reason or f'{time.monotonic() - start:.0f} s'}", file=sys.stderr)

    @property
    def failed(self) -> dict[str, str]:
        """Conformance checks that failed, with what they saw."""
        return {
            f"{setting} {check}": failure
            for setting, checks in self.checks.items()
            for check, failure in checks.items()
            if failure
        }

    def write(self) -> None:
        write_result(
            self._out,
            {
                "pytorch": self._environment,
                "gpu_conditions": {"before": self._before, "after": gpu_conditions(self._name)},
                "agreement_with_events": self.agreed.get("agreement"),
                "failed_checks": self.failed,
                "broken": self.broken,
                "skipped": self.skipped,
                "conformance": self.checks,
                "tables": self.tables,
            },
        )

    def print(self) -> None:
        states: dict[str, int] = {}
        for table in self.tables.values():
            for state, count in table.get("states", {"no table": 1}).items():
                states[state] = states.get(state, 0) + count
        rows = [
            ("conformance checks failed", str(len(self.failed)), "0"),
            ("rows by state", ", ".join(f"{n} {s}" for s, n in states.items()) or "none", "no failed"),
            ("steps broken, skipped", f"{len(self.broken)}, {len(self.skipped)}", "0, 0"),
        ]
        if agreed := self.agreed.get("agreement"):
            plain, worst = agreed["plain_events_median_percent"], agreed["grouping_worst_percent"]
            rows += [
                ("plain CUDA events differ by, median", f"{plain:.1f} %", f"<= {GOAL_PERCENT:g} %"),
                (
                    "one long group differs by, worst",
                    f"{worst:.1f} %",
                    f"<= {GROUPING_GOAL_PERCENT:g} %",
                ),
            ]
        print_table(f"pytorch on {self._name}", rows)
        for what, why in {**self.failed, **self.broken, **self.skipped}.items():
            print(f"  {what}: {why}")


def gpu_conditions(name: str) -> Mapping[str, Any] | str:
    """Of the target's GPU now, or why they are not known."""
    index = cuda_index(Target(name))
    gpu, reason = (None, "not a GPU") if index is None else open_gpu(index)
    return asdict(gpu.conditions()) if gpu else reason


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--limit", type=int, default=12, help="ops of s3nas a table")
    parser.add_argument("--minutes", type=float, default=9.0, help="no step starts after so long")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    arguments = parser.parse_args()
    name, limit = arguments.target, arguments.limit
    try:
        PytorchBackend().check_target(Target(name))
    except BackendUnavailable as error:
        sys.exit(str(error))
    folder = arguments.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(name, arguments.out, arguments.minutes)

    def check(setting: Setting) -> None:
        run = partial(conformance, setting, name)
        report.step(report.checks, "conformance", setting.name, missing(setting, name), run)

    def table(setting: Setting, rows: int) -> None:
        run = partial(build, setting, name, rows, folder)
        report.step(report.tables, "table", setting.name, missing(setting, name), run)

    on_cpu = "the CPU has no events" if name == "cpu" else ""
    report.step(report.agreed, "agreement", "", on_cpu, partial(agreement, name))
    for setting in CHECKED[:-1]:
        check(setting)
    for setting in BUILT[:-1]:
        table(setting, limit)
    check(CHECKED[-1])
    table(BUILT[-1], min(4, limit))
    report.print()


if __name__ == "__main__":
    main()
