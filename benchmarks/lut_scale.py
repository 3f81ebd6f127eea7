"""How a table of a million rows loads and answers: time, memory, bytes on disk.

    python benchmarks/lut_scale.py --rows 1000000 --out benchmarks/results/lut_scale.json

Makes a table with the columns of real ops and made-up latencies in a temporary folder, then measures it
in fresh processes (the file is in the page cache). Goals for 1,000,000 rows on 2 cores: load in 1 s or
less, 1,000,000 vectorised look-ups in 1 s or less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.lut import COLUMNS, USABLE_STATES, load_lut, null_row, op_columns, rows_to_table, write_lut
from hwprof.ops import OpSpec, mixconv

LOOK_UPS = 1_000_000
SINGLE_LOOK_UPS = 10_000
FACTORS = {
    "latency_ms": 1.0, "latency_low_ms": 0.99, "latency_high_ms": 1.02, "min_ms": 0.98, "p10_ms": 1.01,
    "p50_ms": 1.1, "p90_ms": 1.3, "p99_ms": 2.0,
}  # fmt: skip
GOALS_S = {"load_and_first_look_up_s": 1.0, "look_ups_from_list_s": 1.0, "look_ups_from_array_s": 1.0}
WORDS = {
    "load_s": "load_lut (checks metadata and schema)",
    "load_and_first_look_up_s": "load_lut and first look-up (keys read, index built)",
    "look_ups_from_list_s": f"{LOOK_UPS:,} look-ups, ids in a list",
    "look_ups_from_array_s": f"{LOOK_UPS:,} look-ups, ids in a numpy array",
    "single_look_up_s": "one latency_ms call",
    "all_columns_s": "reading all other columns",
    "import_mib": "peak memory after import",
    "ready_peak_mib": "peak memory after the first look-up",
    "look_ups_peak_mib": f"peak memory with {LOOK_UPS:,} ids as list and array",
    "all_columns_peak_mib": "peak memory with all columns read",
}


def template_ops() -> list[OpSpec]:
    """Some hundred different blocks."""
    return [
        mixconv(
            (1, width, side, side),
            width,
            {3: width * expansion, kernel: width},
            activation=activation,
            se_ratio=se_ratio,
        )
        for width, side in ((16, 112), (24, 56), (40, 28), (80, 14), (112, 14), (192, 7))
        for expansion in (1, 2, 3, 5)
        for kernel in (5, 7)
        for activation in ("relu", "hswish")
        for se_ratio in (0.0, 0.25)
    ]


def made_up_table(rows: int, rng: np.random.Generator) -> pa.Table:
    """A table of distinct op ids: 90 % converged, 8 % budget, 1 % unstable, 1 % failed."""
    blank = {
        **null_row(), "environment_id": "e" * 16, "granularity": "op", "cache": "warm",
        "state": "converged", "backend": "onnxruntime", "target": "cpu", "threads": 1, "regime": "burst",
        "source": "measured", "energy_reason": "no sensor", "peak_memory_source": "not measured",
        "hwprof_version": "0.1.0", "schema_version": 1, "space": "s3nas", "build_id": "0" * 12,
        "placement": '{"cpu": 9}',
    }  # fmt: skip
    templates = rows_to_table([{**blank, **op_columns(op)} for op in template_ops()])
    chosen = rng.integers(templates.num_rows, size=rows)
    columns = {name: templates.column(name).take(pa.array(chosen)) for name in templates.column_names}
    for name in ("label", "op_json"):  # as different from each other as those of real ops
        numbers = pa.array([f" {number}" for number in rng.integers(1 << 30, size=rows)])
        columns[name] = pc.binary_join_element_wise(columns[name], numbers, "")
    text = rng.bytes(10 * rows).hex()
    ids = [text[20 * i : 20 * i + 20] for i in range(rows)]
    columns["op_id"] = pa.array(ids)
    state = rng.choice(["converged", "budget", "unstable", "failed"], rows, p=[0.9, 0.08, 0.01, 0.01])
    failed = state == "failed"
    latency = rng.lognormal(0, 1, rows)
    for name, factor in FACTORS.items():
        columns[name] = pa.array(latency * factor * rng.uniform(1, 1.001, rows), mask=failed)
    for name in ("visits", "clean_visits", "processes"):
        columns[name] = pa.array(rng.integers(12, 25, rows), pa.int32(), mask=failed)
    columns["samples"] = pa.array(rng.integers(100, 9999, rows), mask=failed)
    columns["reason"] = pa.array([f"worker died ({i})" for i in range(rows)], mask=~failed)
    columns["state"] = pa.array(state)
    columns["compile_ms"] = pa.array(rng.uniform(5, 50, rows))
    columns["load_ms"] = pa.array(rng.uniform(1, 5, rows))
    start = 1_700_000_000_000 + np.arange(rows) * 300
    columns["started_at"] = pa.array(start).cast(pa.timestamp("ms", tz="UTC"))
    return pa.table([columns[column.name] for column in COLUMNS], names=[c.name for c in COLUMNS])


def usable_ids(rows: pa.Table, count: int) -> NDArray[np.bytes_]:
    """Ids of rows with a number, drawn at random with repetition."""
    usable = rows.filter(pc.is_in(rows.column("state"), pa.array(USABLE_STATES))).column("op_id")
    drawn = np.random.default_rng(1).integers(len(usable), size=count)
    return usable.take(pa.array(drawn)).to_numpy().astype("S20")


def measure(path: str, wanted: str) -> dict[str, float]:
    """All timings of one fresh process; `wanted` is a .npy file of the op ids to look up."""
    found = {"import_mib": _peak_mib()}
    one = str(np.load(wanted, mmap_mode="r")[0], "ascii")
    lut, load_s = _timed(lambda: load_lut(path))
    _, first_s = _timed(lambda: lut.latency_ms(one))
    found |= {
        "load_s": load_s,
        "load_and_first_look_up_s": load_s + first_s,
        "ready_peak_mib": _peak_mib(),
    }
    array = np.load(wanted).astype("U20")
    ids = array.tolist()
    _, found["look_ups_from_list_s"] = _timed(lambda: lut.latencies_ms(ids))
    _, found["look_ups_from_array_s"] = _timed(lambda: lut.latencies_ms(array))
    singles = ids[:SINGLE_LOOK_UPS]
    _, seconds = _timed(lambda: [lut.latency_ms(one) for one in singles])
    found["single_look_up_s"] = seconds / SINGLE_LOOK_UPS
    found["look_ups_peak_mib"] = _peak_mib()
    _, found["all_columns_s"] = _timed(lambda: lut.table)
    found["all_columns_peak_mib"] = _peak_mib()
    return found


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _peak_mib() -> float:
    # Not ru_maxrss: a child process starts with its parent's.
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes; the median is reported")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("TABLE", "IDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lut.parquet"
        rows = made_up_table(options.rows, np.random.default_rng(0))
        environments = {"e" * 16: {"identity": {"device": "made up"}, "conditions": {}}}
        metadata = {"spaces": ["s3nas"], "environments": environments}
        _, write_s = _timed(lambda: write_lut(path, rows, metadata=metadata))
        size = path.stat().st_size
        wanted = Path(folder) / "wanted.npy"
        np.save(wanted, usable_ids(rows, LOOK_UPS))
        command = [sys.executable, __file__, "--measure", str(path), str(wanted)]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(options.repeats)]
    result = {
        "command": f"python benchmarks/lut_scale.py --rows {options.rows}",
        "rows": options.rows,
        "look_ups": LOOK_UPS,
        "repeats": options.repeats,
        "write_s": write_s,
        "file_mib": size / 2**20,
        "bytes_per_row": size / options.rows,
        **{name: statistics.median(run[name] for run in runs) for name in WORDS},
        "goals_met": {
            name: max(run[name] for run in runs) <= goal for name, goal in GOALS_S.items()
        },
        "environment": {
            "cpu": _cpu_model(), "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            **{name: version(name) for name in ("hwprof", "numpy", "pyarrow")},
        },
    }  # fmt: skip
    print(
        f"{options.rows:,} rows, {size / 2**20:.0f} MiB on disk, {size / options.rows:.0f} bytes a row, "
        f"checked and written in {write_s:.1f} s; median of {options.repeats} fresh processes:"
    )
    for name, words in WORDS.items():
        goal = f"   goal {GOALS_S[name]:g} s" if name in GOALS_S else ""
        unit = "MiB" if name.endswith("_mib") else "s"
        print(f"  {words:<50} {result[name]:12.6g} {unit}{goal}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown"
    )


if __name__ == "__main__":
    main()
