"""How near does TVM come to ONNX Runtime once MetaSchedule has tuned it?

    python benchmarks/tvm_tuned.py --blocks 20 --trials 64 --work FOLDER \\
        --out benchmarks/results/tvm_tuned.json

Blocks of `s3nas`, one thread each: a table tuned with so many trials a task, one of the default
pipeline, one of ONNX Runtime. Tables and tuning database stay in FOLDER: a killed run goes on where it
stopped. Tuning takes about one and a half hours on two cores; `--budget` bounds it, and what is there
by then is published.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result
from side_by_side import blocks, space_file

from hwprof.lut import load_lut
from hwprof.ops import OpSpec

GOAL = 2.0


def build(arguments: list[str], space: Path, out: Path) -> str:
    """One table, gone on with if it was begun before. Returns the id of the environment that it was
    built in: the table keeps the rows of every one, such as of another number of trials."""
    command = [sys.executable, "-m", "hwprof", "build-lut", "--effort", "fast", "--json"]
    command += ["--space", str(space), "--out", str(out), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1, 130):
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    planned = subprocess.run([*command, "--dry-run"], stdout=subprocess.PIPE, text=True, check=True)
    return str(json.loads(planned.stdout)["environment_id"])


def rows_of(path: Path, ops: list[OpSpec], environment_id: str) -> list[dict[str, Any] | None]:
    """Rows of one environment in the blocks' order; None where there is no number."""
    every = load_lut(path).table.to_pylist()
    rows = {row["op_id"]: row for row in every if row["environment_id"] == environment_id}
    found = [rows.get(op.op_id) for op in ops]
    return [row if row is not None and row["latency_ms"] is not None else None for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--trials", type=int, default=64, help="a task")
    parser.add_argument("--budget", default="", help="time for tuning, e.g. 90m")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    ops = blocks(chosen.blocks)
    space = space_file(ops, chosen.work)
    tuned = ["--backend", "tvm", "--target", "llvm", "--option", "tuning=metaschedule"]
    tuned += ["--option", f"trials={chosen.trials}"]
    tuned += ["--option", f"database={chosen.work / 'database'}"]
    if chosen.budget:
        tuned += ["--budget", chosen.budget]
    builds = {
        "tuned": tuned,
        "untuned": ["--backend", "tvm", "--target", "llvm"],
        "onnxruntime": ["--backend", "onnxruntime"],
    }
    tables, took_s = {}, {}
    for name, arguments in builds.items():
        start = time.monotonic()
        out = chosen.work / f"{name}.parquet"
        tables[name] = rows_of(out, ops, build(arguments, space, out))
        took_s[name] = time.monotonic() - start
    entries: list[dict[str, Any]] = []
    for op, row, default, base in zip(ops, *tables.values(), strict=True):
        if row is None or default is None or base is None:
            continue
        entries.append(
            {
                "label": op.label,
                "tuning": row["tuning"],
                "state": row["state"],
                "compile_s": row["compile_ms"] / 1e3,
                "tuned_ms": row["latency_ms"],
                "untuned_ms": default["latency_ms"],
                "onnxruntime_ms": base["latency_ms"],
                "ratio": row["latency_ms"] / base["latency_ms"],
                "untuned_ratio": default["latency_ms"] / base["latency_ms"],
            }
        )
    ratio = float(np.median([entry["ratio"] for entry in entries]))
    untuned = float(np.median([entry["untuned_ratio"] for entry in entries]))
    result = {
        "trials_a_task": chosen.trials,
        "blocks_asked": len(ops),
        "blocks_done": len(entries),
        "this_run_s": round(took_s["tuned"], 1),
        "compile_s": round(sum(entry["compile_s"] for entry in entries), 1),
        "median_ratio": ratio,
        "goal": GOAL,
        "median_untuned_ratio": untuned,
        "entries": entries,
    }
    write_result(chosen.out, result)
    print_table(
        f"{len(entries)} of {len(ops)} blocks, one thread, {chosen.trials} trials a task",
        [
            ("TVM tuned / ONNX Runtime, median", f"{ratio:.2f}x", f"goal {GOAL:g}x"),
            ("TVM untuned / ONNX Runtime, median", f"{untuned:.2f}x", ""),
        ],
    )


if __name__ == "__main__":
    main()
