"""Does a search end at its target, as measured?

    python benchmarks/search_targets.py --data cifar10.parquet --work FOLDER \\
        --out benchmarks/results/search_targets.json

Builds and calibrates a table of `--space` on ONNX Runtime (or takes the calibrated `--lut` of this
machine), then searches at targets spread evenly between the fastest and the slowest network. The warm
phase is trained once. The found networks keep the supernet's weights (`--train-epochs 0`): how well they
are trained changes no latency, so the slow trainings of the largest may be short (`--sizes`). Goal:
measured at most 3 % above the target and at most 8 % below. FOLDER keeps everything: a killed run goes
on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import print_table, write_result

from hwprof.lut import load_lut
from hwprof.search.largest import additive_costs
from hwprof.space import load_space

ABOVE, BELOW = 0.03, 0.08


def hwprof(*arguments: str) -> dict[str, Any]:
    """One command with `--json`; exit code 1 (some rows failed) is no reason to stop."""
    command = [sys.executable, "-m", "hwprof", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--space", default="s3nas-cifar")
    parser.add_argument("--lut", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--sizes", nargs="+", default=["reduced"] * 5, help="of each target's search")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    table = chosen.lut or chosen.work / "lut.parquet"
    if not table.exists():
        hwprof(
            "build-lut", "--backend", chosen.backend, "--space", chosen.space, "--out", str(table),
            "--effort", chosen.effort,
        )  # fmt: skip
        hwprof(
            "calibrate", str(table), "--networks", "20", "--model", "terms", "--effort", chosen.effort
        )
    costs = additive_costs(load_lut(table), load_space(chosen.space), allow_unstable=True)
    low, high = costs.fastest_ms, costs.slowest_ms
    found, lines = [], []
    for number, size in enumerate(chosen.sizes):
        target_ms = round(low + (high - low) * (number + 0.5) / len(chosen.sizes), 4)
        folder = chosen.work / f"target{number}"
        warm = ["--warm", str(chosen.work / "target0" / "warm.safetensors")] if number else []
        start = time.monotonic()
        told = hwprof(
            "search", "--space", chosen.space, "--lut", str(table), "--target-ms", str(target_ms),
            "--data", chosen.data, "--size", size, "--train-epochs", "0", "--out", str(folder),
            "--allow-unstable", "--effort", chosen.effort, *warm,
        )  # fmt: skip
        gap = told["measured_ms"] / target_ms - 1.0
        found.append(
            {
                "target_ms": target_ms,
                "size": size,
                "predicted_ms": told["predicted_ms"],
                "measured_ms": told["measured_ms"],
                "measured_over_target": gap,
                "reason": told["reason"],
                "rows_ratio": told["shortlist"][told["chosen"]]["rows_ratio"],
                "shortlist": [[e["predicted_ms"], e["measured_ms"]] for e in told["shortlist"]],
                "steps": [[s["name"], s["latency_ms"], s["accuracy"]] for s in told["steps"]],
                "point": told["point"],
                "met": -BELOW <= gap <= ABOVE,
                "wall_s": round(time.monotonic() - start, 1),
            }
        )
        lines.append(
            (
                f"asked {target_ms:.4g} ms",
                f"predicted {told['predicted_ms']:.4g}",
                f"measured {gap:+.1%}",
            )
        )
        result = {"space": chosen.space, "fastest_ms": low, "slowest_ms": high, "searches": found}
        write_result(chosen.out, result)
    print_table(f"{len(chosen.sizes)} targets of {chosen.space}", lines)


if __name__ == "__main__":
    main()
