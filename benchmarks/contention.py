"""What does a busy neighbour do to a table?

    python benchmarks/contention.py --blocks 50 --work FOLDER --out benchmarks/results/contention.json

Blocks of `s3nas` on ONNX Runtime, built idle, beside one and beside two processes that keep a core busy
with matrix products each, with one and with two threads. A row is right or marked: what counts is the
share that converges, and how far the converged ones are from the idle build's. Tables stay in FOLDER.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result
from side_by_side import blocks, space_file

from hwprof.lut import load_lut
from hwprof.lut.schema import USABLE_STATES

NEIGHBOUR = """
import numpy
a = numpy.random.default_rng(0).random((384, 384), dtype=numpy.float32)
while True:
    b = a @ a
"""
# (threads, neighbours): goal of the converged share, bound of the difference that 95 % must keep.
GOALS = {(1, 1): (0.60, 0.03), (2, 1): (None, 0.05)}


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that each load one core."""
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    busy = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=single) for _ in range(count)]
    try:
        time.sleep(2.0)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def build(space: Path, out: Path, threads: int) -> float:
    """Seconds that the build took, 0 where the table was there."""
    if out.exists():
        return 0.0
    command = [sys.executable, "-m", "hwprof", "build-lut", "--backend", "onnxruntime"]
    command += ["--space", str(space), "--out", str(out), "--threads", str(threads), "--json"]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    return time.monotonic() - start


def compare(idle: Path, loaded: Path) -> dict[str, Any]:
    """States of the loaded build, and its rows against the idle one's."""
    truth = {row["op_id"]: row for row in load_lut(idle).table.to_pylist()}
    rows = load_lut(loaded).table.to_pylist()
    states = [row["state"] for row in rows]
    pairs = [
        (row["state"], row["latency_ms"] / truth[row["op_id"]]["latency_ms"] - 1.0)
        for row in rows
        if row["latency_ms"] is not None and truth[row["op_id"]]["state"] in USABLE_STATES
    ]
    converged = np.abs([change for state, change in pairs if state == "converged"])
    return {
        "rows": len(rows),
        "states": {state: states.count(state) for state in sorted(set(states))},
        "converged_share": states.count("converged") / len(rows),
        "converged_within_3": float((converged <= 0.03).mean()) if converged.size else None,
        "converged_within_5": float((converged <= 0.05).mean()) if converged.size else None,
        "converged_median_change": float(np.median(converged)) if converged.size else None,
        "converged_p95_change": float(np.percentile(converged, 95)) if converged.size else None,
        "all_median_change": float(np.median([change for _, change in pairs])) if pairs else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=50)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    space = space_file(blocks(chosen.blocks), chosen.work)
    found, lines = [], []
    for threads in (1, 2):
        idle = chosen.work / f"threads{threads}-idle.parquet"
        build(space, idle, threads)
        # A second idle build says how much of the difference is there without any neighbour.
        for count in (0, 1, 2):
            loaded = chosen.work / f"threads{threads}-busy{count}.parquet"
            with neighbours(count):
                wall_s = build(space, loaded, threads)
            entry = compare(idle, loaded)
            entry |= {"threads": threads, "neighbours": count, "wall_s": round(wall_s, 1)}
            share, bound = GOALS.get((threads, count), (None, None))
            kept = None
            if bound is not None:
                kept = entry["converged_within_3" if bound == 0.03 else "converged_within_5"]
            entry["goal_share"], entry["goal_bound"] = share, bound
            found.append(entry)
            lines.append(
                (
                    f"{threads} threads, {count} neighbours: converged",
                    f"{entry['converged_share']:.0%}",
                    f"goal {share:.0%}" if share else "",
                )
            )
            if bound is not None:
                shown = "none" if kept is None else f"{kept:.0%}"
                lines.append((f"  of them within {bound:.0%} of idle", shown, "goal 95%"))
    write_result(chosen.out, {"blocks": chosen.blocks, "builds": found})
    print_table(f"{chosen.blocks} blocks beside busy neighbours", lines)


if __name__ == "__main__":
    main()
