"""The same blocks of `s3nas` on every backend that works here: estimate, spread, compile and load time.

    python benchmarks/side_by_side.py --blocks 50 --out benchmarks/results/side_by_side.json

Each column is a `hwprof build-lut` of its own, one thread, effort fast. A backend or option that is not
available is listed with the reason. `--python PATH` adds tflite-runtime in its own interpreter, `--only
TEXT` keeps the columns whose label holds the text; columns that are in the result already stay. The
result is written after each column.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import print_table, write_result

from hwprof.lut import load_lut
from hwprof.ops import OpSpec
from hwprof.space import load_space


@dataclass(frozen=True)
class Column:
    """A backend with what it is given; `goal_ms` bounds the median of compile plus load."""

    label: str
    arguments: tuple[str, ...]
    dtype: str = "float32"
    goal_ms: float | None = None


def columns(python: str | None) -> list[Column]:
    """All that is compared."""
    pytorch = ("--backend", "pytorch", "--target", "cpu", "--option")
    tflite = ("--backend", "tflite")
    found = [
        Column("onnxruntime", ("--backend", "onnxruntime"), goal_ms=50.0),
        Column("onnxruntime int8", ("--backend", "onnxruntime"), "int8"),
        Column("tflite", tflite, goal_ms=50.0),
        Column("tflite float16 weights", tflite, "float16"),
        Column("tflite int8", tflite, "int8"),
        Column("tflite without XNNPACK", (*tflite, "--option", "xnnpack=off")),
        Column("pytorch eager", (*pytorch, "mode=eager"), goal_ms=30.0),
        Column("pytorch eager bfloat16", (*pytorch, "mode=eager"), "bfloat16"),
        Column("pytorch compile", (*pytorch, "mode=compile")),
        Column("tvm untuned", ("--backend", "tvm", "--target", "llvm"), goal_ms=1500.0),
    ]
    if python:
        own = (*tflite, "--option", "runtime=tflite-runtime", "--python", python)
        found.append(Column("tflite-runtime", own))
    return found


def blocks(count: int) -> list[OpSpec]:
    """Evenly spaced MixConv blocks of the supernet, in its order."""
    every = [op for op in load_space("s3nas").ops() if op.kind == "mixconv"]
    return [every[round(i)] for i in np.linspace(0, len(every) - 1, count)]


def space_file(ops: list[OpSpec], folder: Path) -> Path:
    """The blocks as a space of the family `ops`."""
    path = folder / "blocks.yaml"
    lines = [{"op": op.to_json()} for op in ops]
    path.write_text(
        yaml.safe_dump({"name": "blocks", "family": "ops", "summary": "blocks of s3nas", "ops": lines})
    )
    return path


def measure(column: Column, ops: list[OpSpec], folder: Path) -> dict[str, Any]:
    """One table; its rows in the blocks' order."""
    out = folder / f"{column.label.replace(' ', '-')}.parquet"
    command = [sys.executable, "-m", "hwprof", "build-lut", "--effort", "fast", "--json"]
    command += ["--space", str(space_file(ops, folder)), "--out", str(out)]
    command += ["--dtype", column.dtype, *column.arguments]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        return {"not_run": f"exit code {done.returncode}; its message is on standard error"}
    lut = load_lut(out)
    by_id = {row["op_id"]: row for row in lut.table.to_pylist()}
    rows = [by_id[replace(op, dtype=column.dtype).op_id] for op in ops]
    measured = [row for row in rows if row["latency_ms"] is not None]
    both_ms = [row["compile_ms"] + row["load_ms"] for row in measured]
    spread = [(row["latency_high_ms"] / row["latency_low_ms"] - 1) / 2 for row in measured]
    jitter = [row["p50_ms"] / row["latency_ms"] - 1 for row in measured]
    (environment,) = lut.metadata["environments"].values()
    return {
        "identity": environment["identity"],
        "command_s": round(time.monotonic() - start, 1),
        "states": json.loads(done.stdout)["states"],
        "median_half_width_percent": 100 * float(np.median(spread)),
        "median_p50_above_estimate_percent": 100 * float(np.median(jitter)),
        "median_compile_ms": float(np.median([row["compile_ms"] for row in measured])),
        "median_load_ms": float(np.median([row["load_ms"] for row in measured])),
        "median_compile_plus_load_ms": float(np.median(both_ms)),
        "goal_compile_plus_load_ms": column.goal_ms,
        "rows": [
            {
                name: row[name]
                for name in (
                    "label", "state", "latency_ms", "latency_low_ms", "latency_high_ms", "p50_ms",
                    "compile_ms", "load_ms", "peak_memory_bytes", "placement",
                )
            }
            for row in rows
        ],
    }  # fmt: skip


def earlier_columns(out: Path, ops: list[OpSpec]) -> dict[str, Any]:
    """What the result holds already. Ends the program where that is of other blocks: their rows cannot
    stand beside these."""
    if not out.exists():
        return {}
    before = json.loads(out.read_text())
    if before["blocks"] != [op.label for op in ops]:
        sys.exit(
            f"{out} holds {len(before['blocks'])} blocks, which are not the {len(ops)} asked for; "
            "give --blocks as before, or another --out"
        )
    columns: dict[str, Any] = before["columns"]
    return columns


def compare(results: dict[str, Any]) -> None:
    """Each column's times as a median multiple of onnxruntime's, where that has been measured."""
    if "rows" not in results.get("onnxruntime", {}):
        return
    base = np.array([row["latency_ms"] for row in results["onnxruntime"]["rows"]], dtype=float)
    for result in results.values():
        if "rows" in result:
            own = np.array([row["latency_ms"] for row in result["rows"]], dtype=float)
            result["median_time_of_onnxruntime"] = float(np.nanmedian(own / base))


def summary(label: str, result: dict[str, Any]) -> tuple[str, str, str]:
    """A line of the printed table."""
    if "rows" not in result:
        return label, result["not_run"], ""
    times = result.get("median_time_of_onnxruntime")
    goal = result["goal_compile_plus_load_ms"]
    return (
        label,
        f"{'' if times is None else f'{times:.2f}x onnxruntime, '}half width "
        f"{result['median_half_width_percent']:.1f} %, compile "
        f"{result['median_compile_ms']:.1f} + load {result['median_load_ms']:.1f} ms",
        f"compile + load goal {goal:g} ms" if goal else "",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=50)
    parser.add_argument("--python", help="interpreter that has tflite-runtime")
    parser.add_argument("--only", default="", help="measure only columns whose label holds this")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    ops = blocks(chosen.blocks)
    results = earlier_columns(chosen.out, ops)
    wanted = [column for column in columns(chosen.python) if chosen.only in column.label]
    if not wanted:
        sys.exit(f"no column is called {chosen.only!r}; choose of {[c.label for c in columns(None)]}")
    with tempfile.TemporaryDirectory() as folder:
        for column in wanted:
            results[column.label] = measure(column, ops, Path(folder))
            compare(results)
            write_result(chosen.out, {"blocks": [op.label for op in ops], "columns": results})
    lines = [summary(label, result) for label, result in results.items()]
    print_table(f"{len(ops)} blocks of s3nas, one thread", lines)


if __name__ == "__main__":
    main()
