"""Everything that needs a GPU, in one command and ten minutes: is pytorch right on CUDA, does
its clock agree with plain CUDA events, what do some blocks of `s3nas` take?

    pip install --no-deps --no-build-isolation -e .
    python benchmarks/gpu.py --out benchmarks/results/gpu.json

It needs no package registry: beside torch with CUDA it imports numpy, ml_dtypes, click, pyyaml, pyarrow
and pandas, and nvidia-ml-py for clocks and driver; not onnx, onnxruntime, duckdb or rich.
`mode=compile` also needs g++, triton and the CUDA toolkit's headers, else it is skipped with the reason.
The tables lie in a folder of the result's name beside it. Steps that no longer fit into `--minutes` are
listed as skipped. `--target cpu` runs what of it makes sense there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result

from hwprof import ops
from hwprof.backends.backend import Target
from hwprof.backends.conformance import (
    CHECKS,
    DEVICE_CHECKS,
    Check,
    check_chain,
    check_fresh_sessions,
    check_placement,
    run_check,
)
from hwprof.backends.pytorch import PytorchBackend
from hwprof.errors import BackendUnavailable
from hwprof.lut import load_lut
from hwprof.machine.nvml import open_gpu
from hwprof.ops import OpSpec

GOAL_PERCENT = 3.0
BUILD_S = 35


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


def agreement(times: int = 15) -> dict[str, Any]:
    """Our calls against plain CUDA events around the same replays of one graph, in turn: medians of
    groups of 20. Launching a replay takes less than running it, so that plain events need no spin."""
    import torch

    backend, target = PytorchBackend(), Target("cuda", options=GRAPH)
    rows = []
    for op in blocks():
        artifact = backend.compile(op.lower(), target)
        session: Any = backend.prepare(artifact, np.random.default_rng(0), target)
        with session:
            ours, plain = [], []
            for _ in range(times):
                ours.append(session.time_calls(1, 20)[0] / 20)
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                with session._working() as call:
                    start.record(session._stream)
                    for _ in range(20):
                        call()
                    end.record(session._stream)
                    session._stream.synchronize()
                plain.append(start.elapsed_time(end) * 1e6 / 20)
            rows.append(
                {
                    "op": op.label,
                    "ours_us": float(np.median(ours)) / 1e3,
                    "plain_us": float(np.median(plain)) / 1e3,
                    "launch_us": float(np.median(session.launch_calls(20))) / 1e3,
                }
            )
    differences = [abs(row["ours_us"] / row["plain_us"] - 1) * 100 for row in rows]
    return {"median_percent": float(np.median(differences)), "blocks": rows}


def build(setting: Setting, name: str, limit: int, folder: Path) -> dict[str, Any]:
    """A table by the command line, as a user makes it; its report and its rows in short."""
    out = folder / f"{setting.name}.parquet"
    command = [sys.executable, "-m", "hwprof", "build-lut", "--backend", "pytorch", "--target", name]
    command += ["--space", "s3nas", "--dtype", setting.dtype, "--cache", setting.cache]
    command += ["--effort", "fast", "--limit", str(limit), "--budget", str(BUILD_S), "--fresh"]
    command += ["--out", str(out), "--json"]
    for option, value in setting.options.items():
        command += ["--option", f"{option}={value}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--limit", type=int, default=12, help="ops of s3nas a table")
    parser.add_argument("--minutes", type=float, default=9.0, help="no step starts after so long")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    arguments = parser.parse_args()
    name, end = arguments.target, time.monotonic() + 60 * arguments.minutes
    on_gpu = name != "cpu"
    backend = PytorchBackend()
    if on_gpu:
        try:
            backend.check_target(Target(name))
        except BackendUnavailable as error:
            sys.exit(str(error))
    folder = arguments.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    skipped: dict[str, str] = {}
    results: dict[str, dict[str, Any]] = {"conformance": {}, "tables": {}}

    def step(part: str, setting: Setting, run: Callable[[], Any]) -> None:
        reason = missing(setting, name)
        if time.monotonic() > end:
            reason = f"after {arguments.minutes:g} minutes"
        if reason:
            skipped[f"{part} {setting.name}"] = reason
            return
        start = time.monotonic()
        results[part][setting.name] = run()
        print(f"{part} {setting.name}: {time.monotonic() - start:.0f} s", file=sys.stderr)

    gpu, reason = open_gpu(0) if on_gpu else (None, "not a GPU")
    before = asdict(gpu.conditions()) if gpu else reason
    agreed = agreement() if on_gpu else None
    for setting in CHECKED[:-1]:
        step("conformance", setting, lambda s=setting: conformance(s, name))
    for setting in BUILT[:-1]:
        step("tables", setting, lambda s=setting: build(s, name, arguments.limit, folder))
    compiled = CHECKED[-1]
    step("conformance", compiled, lambda: conformance(compiled, name))
    step("tables", BUILT[-1], lambda: build(BUILT[-1], name, min(4, arguments.limit), folder))

    failed = {
        f"{setting} {check}": failure
        for setting, checks in results["conformance"].items()
        for check, failure in checks.items()
        if failure
    }
    states: dict[str, int] = {}
    for table in results["tables"].values():
        for state, count in table.get("states", {"no table": 1}).items():
            states[state] = states.get(state, 0) + count
    table_rows = [
        ("conformance checks failed", str(len(failed)), "0"),
        ("rows by state", ", ".join(f"{n} {s}" for s, n in states.items()), "no failed ones"),
        ("steps skipped", str(len(skipped)), "0"),
    ]
    if agreed:
        off = f"{agreed['median_percent']:.1f} %"
        table_rows.append(("plain CUDA events differ by, median", off, f"<= {GOAL_PERCENT:g} %"))
    print_table(f"pytorch on {name}", table_rows)
    for what, why in {**failed, **skipped}.items():
        print(f"  {what}: {why}")
    environment = dict(backend.environment(Target(name)))
    write_result(
        arguments.out,
        {
            "pytorch": environment,
            "gpu_conditions": {"before": before, "after": asdict(gpu.conditions()) if gpu else reason},
            "agreement_with_events": agreed,
            "failed_checks": failed,
            "skipped": skipped,
            **results,
        },
    )


if __name__ == "__main__":
    main()
