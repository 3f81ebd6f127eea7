"""Tables that teams share, at ten million rows: merge, filter, look-up, bytes; also JSON, YAML, pickle.

    python benchmarks/share_scale.py --out benchmarks/results/share_scale.json

Ten made-up tables ("teams") of a million rows each: 50 devices, 20,000 ops (see `made_up.py`). One build
of each team is split over two tables at random, row by row, and one device of each team was measured by
the next team as well, which makes conflicts. All are merged by `--on-conflict newest`.

Everything is timed in fresh processes with their modules imported. Cold: the file's pages were dropped
from the page cache. Goals for 10,000,000 rows: merge in 30 s and 2 GiB, a filter on one environment
and op kind in 0.2 s, opening and looking up one op in 0.1 s, 60 bytes a row, 300 with visits.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from common import print_table, write_result
from made_up import VISITS, made_up_ops, made_up_table, made_up_visits

from hwprof.lut import load_lut, verify_lut, visits_path_of, write_lut
from hwprof.lut.merging import merge

SHARDS, DEVICES, MOST_OPS = 10, 50, 20_000
REPEATS = 5
VISITED_ROWS = 5_000
SIDE_ROWS = {"pickle": 200_000, "JSON": 200_000, "YAML": 5_000}
GOALS = {
    "merge_s": 30.0, "merge_peak_mib": 2048.0, "filter_s": 0.2, "look_up_s": 0.1, "bytes_per_row": 60.0,
    "bytes_per_row_with_visits": 300.0,
}  # fmt: skip
METADATA = {"spaces": ["free-widths"]}


def write_shard(folder: Path, number: int, rows: int) -> None:
    """One team's table."""
    count = max(10, min(MOST_OPS, rows // SHARDS // DEVICES))
    ops = made_up_ops(count)
    half = np.random.default_rng(0).random(count) < 0.5
    before = (number - 1) % SHARDS

    def measured(team: int, name: str, by: int) -> tuple[pa.Table, Any]:
        seed = 1000 * team + 10 * by + len(name)
        return made_up_table(ops, f"team {team}, {name}", f"{seed:012x}", seed)

    made = [measured(number, f"device {i}", i) for i in range(DEVICES - 3)]
    for team, mask in ((number, half), (before, ~half)):
        table, environment = measured(team, "split", 90)
        made.append((table.filter(pa.array(mask)), environment))
    made += [measured(number, "shared", 91), measured(before, "shared", 92)]
    environments = {environment.environment_id: environment.to_dict() for _, environment in made}
    table = pa.concat_tables([table for table, _ in made])
    write_lut(
        folder / f"team{number}.parquet", table, metadata={**METADATA, "environments": environments}
    )


def shards_of(folder: Path) -> list[Path]:
    return [folder / f"team{number}.parquet" for number in range(SHARDS)]


def run_merge(folder: Path) -> dict[str, Any]:
    made, seconds = timed(
        lambda: merge(shards_of(folder), folder / "all.parquet", "newest", overwrite=True)
    )
    return {
        "merge_s": seconds, "merge_peak_mib": peak_mib(), "rows": made.rows,
        "rows_read": sum(source.rows for source in made.sources), "conflicts": made.conflicts,
    }  # fmt: skip


def run_verify(folder: Path) -> dict[str, float]:
    return {"verify_s": timed(lambda: verify_lut(folder / "all.parquet"))[1]}


def run_filter(folder: Path) -> dict[str, float]:
    """Op ids and latencies of one kind and environment, by us and by others."""
    path = folder / "all.parquet"
    environment, kind = chosen(path, ["environment_id", "kind"])

    def ours() -> pa.Table:
        lut = load_lut(path).filter(environment_id=environment, kind=kind)
        return lut.columns(["op_id", "latency_ms"])

    cold(path)
    found, first = timed(ours)
    again, warm = timed(ours)
    assert len(found) == len(again) > 0
    return {"filter_s": first, "filter_warm_s": warm, "filter_rows": len(found)}


def run_filter_elsewhere(folder: Path) -> dict[str, float]:
    """The same filter without our code."""
    import duckdb

    path = folder / "all.parquet"
    environment, kind = chosen(path, ["environment_id", "kind"])
    filters = [("environment_id", "==", environment), ("kind", "==", kind)]
    cold(path)
    frame, by_pandas = timed(
        lambda: pd.read_parquet(path, columns=["op_id", "latency_ms"], filters=filters)
    )
    cold(path)
    sql = f"select op_id, latency_ms from '{path}' where environment_id = ? and kind = ?"
    rows, by_duckdb = timed(lambda: duckdb.execute(sql, [environment, kind]).fetchall())
    assert len(rows) == len(frame)
    return {"filter_pandas_s": by_pandas, "filter_duckdb_s": by_duckdb}


def run_look_up(folder: Path) -> dict[str, float]:
    path = folder / "all.parquet"
    op_id, environment = chosen(path, ["op_id", "environment_id"])
    cold(path)
    value, seconds = timed(lambda: load_lut(path).latency_ms(op_id, environment=environment))
    cold(path)
    row, whole = timed(lambda: load_lut(path).find(op_id, environment=environment))
    assert row["latency_ms"] == value
    return {"look_up_s": seconds, "look_up_all_columns_s": whole}


def chosen(path: Path, names: list[str]) -> list[Any]:
    """Values of a usable row in the middle of the file; touches pandas, which Arrow imports late."""
    file = pq.ParquetFile(path)
    table = file.read_row_group(file.num_row_groups // 2, columns=[*names, "state"])
    row = next(row for row in table.to_pylist() if row["state"] == "converged")
    return [row[name] for name in names]


def run_side(folder: Path) -> dict[str, Any]:
    """The same rows as others keep them: write, bytes, open and look up one op."""
    rows = pq.ParquetFile(folder / "all.parquet").read_row_group(0).to_pylist()
    rows = [{**row, "started_at": row["started_at"].isoformat()} for row in rows]
    found: dict[str, Any] = {}
    forms: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
        "pickle": (
            lambda data, place: place.write_bytes(pickle.dumps(data)),
            lambda place: pickle.loads(place.read_bytes()),
        ),
        "JSON": (
            lambda data, place: place.write_text(json.dumps(data)),
            lambda place: json.loads(place.read_text()),
        ),
        "YAML": (
            lambda data, place: place.write_text(yaml.dump(data, Dumper=yaml.CSafeDumper)),
            lambda place: yaml.load(place.read_text(), Loader=yaml.CSafeLoader),
        ),
    }
    for name, (write, read) in forms.items():
        some, place = rows[: SIDE_ROWS[name]], folder / f"side.{name}"
        _, write_s = timed(lambda some=some, place=place, write=write: write(some, place))
        cold(place)
        wanted = some[len(some) // 2]

        def look_up(place: Path = place, read: Any = read, wanted: Any = wanted) -> Any:
            return next(
                row for row in read(place)
                if (row["op_id"], row["environment_id"]) == (wanted["op_id"], wanted["environment_id"])
            )  # fmt: skip

        row, seconds = timed(look_up)
        assert row == wanted
        found[name] = {
            "rows": len(some), "bytes_per_row": place.stat().st_size / len(some),
            "write_s_per_million": write_s / len(some) * 1e6,
            "look_up_s_per_million": seconds / len(some) * 1e6,
        }  # fmt: skip
    return found


def run_visits(folder: Path) -> dict[str, float]:
    """Bytes of a table with all its visits, and of one of as many ops of one device, all different."""
    ops = made_up_ops(VISITED_ROWS)
    table, environment = made_up_table(ops, "one", "0" * 12, 0)
    metadata = {**METADATA, "environments": {environment.environment_id: environment.to_dict()}}
    visits = made_up_visits(table, 0)
    path = folder / "visited.parquet"
    write_lut(path, table, metadata=metadata, visits=visits)
    size = visits_path_of(path).stat().st_size
    return {
        "bytes_per_visit": size / visits.num_rows,
        "visits_per_row": visits.num_rows / table.num_rows,
        "bytes_per_row_one_device": path.stat().st_size / table.num_rows,
    }


RUNS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "merge": run_merge, "verify": run_verify, "filter": run_filter,
    "filter_elsewhere": run_filter_elsewhere, "look_up": run_look_up, "side": run_side,
    "visits": run_visits,
}  # fmt: skip


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cold(path: Path) -> None:
    """Drop a file's pages from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fresh(name: str, folder: Path, *more: str) -> dict[str, Any]:
    """What a run finds in a process of its own."""
    command = [sys.executable, __file__, "--run", name, "--folder", str(folder), *more]
    found: dict[str, Any] = json.loads(subprocess.check_output(command).splitlines()[-1])
    return found


def medians(name: str, folder: Path) -> dict[str, float]:
    runs = [fresh(name, folder) for _ in range(REPEATS)]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def benchmark(folder: Path, rows: int) -> dict[str, Any]:
    """All figures."""
    for number in range(SHARDS):
        print(f"making table {number + 1} of {SHARDS}", file=sys.stderr)
        fresh("shard", folder, "--rows", str(rows), "--number", str(number))
    found = {**fresh("merge", folder), **fresh("verify", folder)}
    for name in ("filter", "filter_elsewhere", "look_up"):
        found |= medians(name, folder)
    found |= fresh("visits", folder)
    found["bytes_per_row"] = (folder / "all.parquet").stat().st_size / found["rows"]
    most = (GOALS["bytes_per_row_with_visits"] - found["bytes_per_row"]) / found["bytes_per_visit"]
    found["visits_per_row_within_goal"] = most
    found["bytes_per_row_with_visits"] = (
        found["bytes_per_row"] + found["visits_per_row"] * found["bytes_per_visit"]
    )
    found["side_by_side"] = fresh("side", folder)
    return found


def tell(found: dict[str, Any]) -> None:
    words = {
        "merge_s": ("merge of ten tables", "s"),
        "merge_peak_mib": ("  its peak memory", "MiB"),
        "verify_s": ("recompute the content hash", "s"),
        "filter_s": ("open, one environment and op kind, cold", "s"),
        "filter_warm_s": ("  again", "s"),
        "filter_pandas_s": ("  pandas, cold", "s"),
        "filter_duckdb_s": ("  DuckDB, cold", "s"),
        "look_up_s": ("open and look up one op, cold", "s"),
        "look_up_all_columns_s": ("  with all its columns", "s"),
        "bytes_per_row": ("bytes a row", "B"),
        "bytes_per_row_one_device": (f"  of one device, {VISITED_ROWS:,} rows", "B"),
        "bytes_per_visit": ("bytes a visit", "B"),
        "bytes_per_row_with_visits": (f"bytes a row with its {VISITS[0]} to {VISITS[1]} visits", "B"),
        "visits_per_row_within_goal": ("  visits a row for that goal", ""),
    }
    rows = [
        (text, f"{found[name]:.4g} {unit}", f"goal {GOALS[name]:g}" if name in GOALS else "")
        for name, (text, unit) in words.items()
    ]
    for name, side in found["side_by_side"].items():
        rows.append((f"{name}, {side['rows']:,} rows", f"{side['bytes_per_row']:.4g} B", "a row"))
        seconds = f"{side['look_up_s_per_million']:.4g} s"
        rows.append(("  open and look up one op", seconds, "a million rows"))
    title = f"{found['rows_read']:,} rows, {found['rows']:,} after {found['conflicts']:,} conflicts"
    print_table(title, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="in all ten tables")
    parser.add_argument("--out", type=Path, help="result as JSON")
    parser.add_argument("--folder", type=Path, help="keep the tables here (default: a temporary folder)")
    parser.add_argument("--run", choices=(*RUNS, "shard"), help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run == "shard":
        write_shard(options.folder, options.number, options.rows)
        print("{}")
        return
    if options.run:
        print(json.dumps(RUNS[options.run](options.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = benchmark(folder, options.rows)
    tell(found)
    met = {name: found[name] <= goal for name, goal in GOALS.items()}
    if options.out:
        write_result(options.out, {**found, "goals": GOALS, "goals_met": met})


if __name__ == "__main__":
    main()
