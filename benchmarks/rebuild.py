"""Do two independent builds of one table agree, and does the stated interval tell how well?

    python benchmarks/rebuild.py --space s3nas --builds 2 --out benchmarks/results/rebuild.json

Each build is a `hwprof build-lut` of its own, with its own worker processes and seed. Beside it, what
a throw-away script does: the median of 50 back-to-back runs of every op in one process, twice.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result

from hwprof import stats
from hwprof.lut import load_lut

NAIVE = """
import json, sys, time
import numpy as np, onnxruntime
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.space import load_space
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
medians = {}
for op in load_space(sys.argv[1]).ops():
    model = to_onnx(op.lower()).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.random.standard_normal(op.shape).astype("float32")}
    session.run(None, feed)
    runs = []
    for _ in range(50):
        start = time.perf_counter_ns()
        session.run(None, feed)
        runs.append(time.perf_counter_ns() - start)
    medians[op.op_id] = float(np.median(runs)) / 1e6
print(json.dumps(medians))
"""


def build(space: str, out: Path, seed: int, extra: list[str]) -> dict[str, Any]:
    """One build as a user makes it; its report."""
    command = [sys.executable, "-m", "hwprof", "build-lut", "--backend", "onnxruntime", "--space", space]
    command += ["--out", str(out), "--seed", str(seed), "--json", *extra]
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout), "command_s": time.monotonic() - start}


def naive(space: str) -> dict[str, float]:
    """Median of 50 back-to-back runs of each op, in one fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", NAIVE, space], capture_output=True, text=True, check=True
    )
    medians: dict[str, float] = json.loads(done.stdout)
    return medians


def quantiles(differences: np.ndarray) -> dict[str, float]:
    """Median and 95th percentile of relative differences, in percent."""
    size = np.abs(differences) * 100
    return {
        "median_percent": float(np.median(size)),
        "p95_percent": float(np.percentile(size, 95)),
        "above_2_percent": float((size > 2).mean() * 100),
        "bias_percent": float(np.median(differences) * 100),
    }


def sentinel_ms(path: Path) -> float:
    """A build's dense sentinel: the same work in every build, so it tells the host's speed."""
    return float(load_lut(path).visits.to_pandas().dense_sentinel_ms.median())


def compare(first: Any, second: Any) -> dict[str, Any]:
    """Agreement of two tables over rows that both call converged, over all rows, and over converged rows
    beyond the factor that all rows share (the host's speed changed between the builds)."""
    both = first.merge(second, on="op_id", suffixes=("_a", "_b"))
    ratio = np.log(both.latency_ms_a / both.latency_ms_b).to_numpy()
    converged = ((both.state_a == "converged") & (both.state_b == "converged")).to_numpy()
    inside = [
        float(((both[f"latency_ms_{y}"] >= both[f"latency_low_ms_{x}"])
               & (both[f"latency_ms_{y}"] <= both[f"latency_high_ms_{x}"])).mean())
        for x, y in (("a", "b"), ("b", "a"))
    ]  # fmt: skip
    return {
        "converged": quantiles(ratio[converged]),
        "converged_beyond_common_factor": quantiles(ratio[converged] - np.median(ratio)),
        "all": quantiles(ratio),
        "both_converged_share": float(converged.mean()),
        "interval_holds": inside,
    }


def literal_share(path: Path, processes: int = 3) -> float:
    """Share of rows that pass the rule of the first trials: over the first `processes` worker processes,
    the four lowest visits within 1 % and each process's floor within 1 %."""
    visits = load_lut(path).visits.to_pandas()
    passed = []
    for _, row in visits[visits.process < processes].groupby("op_id"):
        lowest = np.sort(row.p10_ms)
        floors = [stats.floor_ms(own.p10_ms) for _, own in row.groupby("process")]
        passed.append(lowest[3] / lowest[0] <= 1.01 and max(floors) / min(floors) <= 1.01)
    return float(np.mean(passed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="s3nas")
    parser.add_argument("--builds", type=int, default=2)
    parser.add_argument("--extra", default="", help="more options of build-lut")
    parser.add_argument("--keep", type=Path, help="folder for the tables")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rebuild.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        reports, tables = [], []
        for seed in range(arguments.builds):
            path = folder / f"build{seed}.parquet"
            reports.append(build(arguments.space, path, seed, arguments.extra.split()))
            tables.append(load_lut(path).to_pandas())
        literal = [literal_share(folder / f"build{seed}.parquet") for seed in range(arguments.builds)]
        speeds = [sentinel_ms(folder / f"build{seed}.parquet") for seed in range(arguments.builds)]
        medians = [naive(arguments.space) for _ in range(2)]
    pairs = [compare(a, b) for a, b in itertools.combinations(tables, 2)]
    loops = quantiles(np.array([np.log(medians[0][op] / medians[1][op]) for op in medians[0]]))
    states = [table.state.value_counts().to_dict() for table in tables]
    shares = [s.get("converged", 0) / len(t) for s, t in zip(states, tables, strict=True)]
    widths = [((t.latency_high_ms - t.latency_low_ms) / 2 / t.latency_ms).median() for t in tables]
    timed = [r["timed_s"] / r["wall_s"] for r in reports]
    parts = ("compile_s", "start_s", "visit_s", "exchange_s")
    overhead = [
        (r["wall_s"] - sum(r[part] for part in parts)) * 1e3 / len(t)
        for r, t in zip(reports, tables, strict=True)
    ]
    exchange = [r["exchange_s"] * 1e3 / r["visits"] for r in reports]
    visits = [int(t.visits.sum()) for t in tables]
    mean = lambda name, part: float(np.mean([p[part][name] for p in pairs]))  # noqa: E731
    held = [share for p in pairs for share in p["interval_holds"]]
    print_table(
        f"{arguments.builds} builds of {arguments.space}, {len(tables[0])} ops",
        [
            ("median difference, converged", f"{mean('median_percent', 'converged'):.2f} %", "<= 0.5 %"),
            ("95th percentile, converged", f"{mean('p95_percent', 'converged'):.2f} %", "<= 2 %"),
            (
                "median beyond the common factor",
                f"{mean('median_percent', 'converged_beyond_common_factor'):.2f} %",
                "",
            ),
            (
                "common factor of a pair",
                ", ".join(f"{p['all']['bias_percent']:+.2f} %" for p in pairs),
                "",
            ),
            ("dense sentinel of a build", ", ".join(f"{s * 1e3:.2f} µs" for s in speeds), ""),
            ("median, all rows", f"{mean('median_percent', 'all'):.2f} %", ""),
            ("95th percentile, all rows", f"{mean('p95_percent', 'all'):.2f} %", ""),
            ("median of 50 runs: median", f"{loops['median_percent']:.2f} %", "(naive)"),
            ("median of 50 runs: 95th percentile", f"{loops['p95_percent']:.2f} %", "(naive)"),
            ("converged rows", ", ".join(f"{s:.0%}" for s in shares), ">= 80 %, aim 90 %"),
            ("of them by the first trials' rule", ", ".join(f"{s:.0%}" for s in literal), ""),
            ("interval holds the other build", ", ".join(f"{s:.0%}" for s in held), "85 to 95 %"),
            ("the same over all pairs", f"{np.mean(held):.0%}", "85 to 95 %"),
            ("median half width", ", ".join(f"{w:.2%}" for w in widths), ""),
            ("whole command", ", ".join(f"{r['command_s']:.0f} s" for r in reports), "<= 240 s"),
            ("inside timed calls", ", ".join(f"{t:.0%}" for t in timed), "aim 40 %"),
            ("overhead a row", ", ".join(f"{o:.1f} ms" for o in overhead), "<= 5 ms"),
            ("exchange with the worker a visit", ", ".join(f"{e:.2f} ms" for e in exchange), ""),
            ("starting workers", ", ".join(f"{r['start_s']:.1f} s" for r in reports), ""),
            ("visits", ", ".join(map(str, visits)), ""),
        ],
    )
    write_result(
        arguments.out,
        {
            "space": arguments.space,
            "ops": len(tables[0]),
            "reports": reports,
            "states": states,
            "converged_share": shares,
            "converged_share_by_first_trials_rule": literal,
            "pairs": pairs,
            "dense_sentinel_ms": speeds,
            "naive_median_of_50": loops,
            "median_half_width": [float(w) for w in widths],
            "timed_share": timed,
            "overhead_ms_a_row": overhead,
            "exchange_ms_a_visit": exchange,
        },
    )


if __name__ == "__main__":
    main()
