"""Many processes append to one store at once, undisturbed and while they are killed.

    python benchmarks/store_writers.py --processes 8 --batches 1000 --kills 200 \\
        --out benchmarks/results/store_writers.json

Each process appends its batches one after the other and says when the store has acknowledged one. In the
second part a random process is killed (`kill -9`) at random moments and started again; it asks the store
which of its batches is the last and goes on after it. Then the store is read: every batch must be there
once, with each of its rows and their numbers, and every acknowledged one must be among them. Killed
writers may leave data files that no version names; they are counted.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import print_table, write_result
from made_up import made_up_ops, made_up_table

from hwprof.environment import Environment
from hwprof.lut.store import Store

LONGEST_DELAY_S = 0.05


def batches_of(writer: int, batches: int, rows: int) -> tuple[pa.Table, Environment]:
    """All rows that a writer appends, of a device of its own."""
    return made_up_table(made_up_ops(batches * rows, seed=writer), f"device {writer}", "b", seed=writer)


def write(place: str, writer: int, batches: int, rows: int) -> None:
    """Append what is not there yet, and say so line by line: batch, retries, milliseconds."""
    table, here = batches_of(writer, batches, rows)
    metadata = {"spaces": ["free-widths"], "environments": {here.environment_id: here.to_dict()}}
    store = Store(place)
    last = store.last_sequence(str(writer))
    for number in range(0 if last is None else last + 1, batches):
        start = time.perf_counter()
        done = store.append(
            table.slice(number * rows, rows), metadata, writer=str(writer), sequence=number
        )
        took_ms = 1e3 * (time.perf_counter() - start)
        print(number, done.retries, round(took_ms, 2), flush=True)


class Writers:
    """The writing processes and what they have acknowledged."""

    def __init__(self, place: str, processes: int, batches: int, rows: int) -> None:
        self.place, self.batches, self.rows = place, batches, rows
        self.acknowledged: dict[int, list[int]] = {writer: [] for writer in range(processes)}
        self.retries = 0
        self.took_ms: list[float] = []
        self.restarts = 0
        self._ready = selectors.DefaultSelector()
        self._running: dict[int, subprocess.Popen[str]] = {}
        for writer in range(processes):
            self._start(writer)

    def run(self, kills: int, rng: random.Random) -> None:
        """Wait for all to end, killing at random numbers of acknowledged batches."""
        total = len(self.acknowledged) * self.batches
        due = sorted(rng.sample(range(1, total), kills))
        while self._running:
            for key, _ in self._ready.select():
                self._take(key.data)
            while due and self._count() >= due[0]:
                due.pop(0)
                if self._running:
                    time.sleep(rng.uniform(0, LONGEST_DELAY_S))
                    self._kill(rng.choice(sorted(self._running)))

    def _count(self) -> int:
        return sum(len(numbers) for numbers in self.acknowledged.values())

    def _start(self, writer: int) -> None:
        arguments = [self.place, str(writer), str(self.batches), str(self.rows)]
        command = [sys.executable, __file__, "--write", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._running[writer] = process
        assert process.stdout is not None
        self._ready.register(process.stdout, selectors.EVENT_READ, writer)

    def _take(self, writer: int) -> None:
        """One line of a writer, or its end."""
        process = self._running[writer]
        assert process.stdout is not None
        if line := process.stdout.readline():
            self._note(writer, line)
            return
        self._ready.unregister(process.stdout)
        del self._running[writer]
        if process.wait() != 0:
            raise SystemExit(f"writer {writer} gave up with exit code {process.returncode}")

    def _note(self, writer: int, line: str) -> None:
        if not line.endswith("\n"):
            return  # killed while it was saying so
        number, retries, took_ms = line.split()
        self.acknowledged[writer].append(int(number))
        self.retries += int(retries)
        self.took_ms.append(float(took_ms))

    def _kill(self, writer: int) -> None:
        process = self._running.pop(writer)
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        for line in process.stdout:
            self._note(writer, line)
        self._ready.unregister(process.stdout)
        process.wait()
        self.restarts += 1
        self._start(writer)


def check(place: str, writers: Writers) -> dict[str, Any]:
    """Read the store and compare it with what was to be written."""
    store = Store(place)
    stored = store.rows.query("SELECT op_id, environment_id, batch_id, latency_ms FROM delta")
    found = {}
    for row in stored.to_pylist():
        key = (row["op_id"], row["environment_id"], row["batch_id"])
        found.setdefault(key, []).append(row["latency_ms"])
    missing = wrong = 0
    for writer in writers.acknowledged:
        table, here = batches_of(writer, writers.batches, writers.rows)
        names = np.repeat([f"{writer}/{number}" for number in range(writers.batches)], writers.rows)
        values = zip(table["op_id"].to_pylist(), names, table["latency_ms"].to_pylist(), strict=True)
        for op_id, name, latency_ms in values:
            there = found.pop((op_id, here.environment_id, str(name)), [])
            missing += not there
            wrong += len(there) > 1 or any(value != latency_ms for value in there)
    batches = set(stored.column("batch_id").unique().to_pylist())
    lost = [
        number
        for writer, numbers in writers.acknowledged.items()
        for number in numbers
        if f"{writer}/{number}" not in batches
    ]
    return {
        "rows_found": stored.num_rows,
        "rows_missing": missing,
        "rows_doubled_or_wrong": wrong,
        "rows_of_nobody": len(found),
        "acknowledged_batches_lost": len(lost),
    }


def inner_retries(place: Path) -> int:
    """Lost races that deltalake itself repeated, as the log's commits tell."""
    counts = 0
    for path in sorted((place / "rows" / "_delta_log").glob("*.json")):
        for line in path.read_text().splitlines():
            told = json.loads(line).get("commitInfo", {}).get("operationMetrics", {})
            counts += int(told.get("num_retries", 0))
    return counts


def one_run(options: argparse.Namespace, place: Path, kills: int) -> dict[str, Any]:
    """Write a store and look at it."""
    start = time.perf_counter()
    writers = Writers(str(place), options.processes, options.batches, options.rows)
    writers.run(kills, random.Random(options.seed))
    seconds = time.perf_counter() - start
    took = sorted(writers.took_ms)
    table = Store(str(place)).rows.refresh()
    live = set(table.file_uris())
    named = {path.name for path in (place / "rows").glob("*.parquet")}
    result = {
        "kills": writers.restarts,
        "seconds": seconds,
        "batches_a_second": options.processes * options.batches / seconds,
        "append_p50_ms": statistics.median(took),
        "append_p95_ms": took[int(0.95 * len(took))],
        "append_max_ms": took[-1],
        "races_lost": inner_retries(place) + writers.retries,
        "races_that_hwprof_repeated": writers.retries,
        "versions": table.version(),
        "live_files": len(live),
        "data_files": len(named),
        **check(str(place), writers),
    }
    bad = ("rows_missing", "rows_doubled_or_wrong", "rows_of_nobody", "acknowledged_batches_lost")
    result["every_row_once"] = not any(result[name] for name in bad)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--batches", type=int, default=1000, help="of each process")
    parser.add_argument("--rows", type=int, default=6, help="of each batch")
    parser.add_argument("--kills", type=int, default=200, help="in the second part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        place, *numbers = options.write
        write(place, *map(int, numbers))
        return
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            name: one_run(options, Path(folder) / name, kills)
            for name, kills in (("undisturbed", 0), ("killed", options.kills))
        }
    for name, part in parts.items():
        print_table(
            f"{name}: {options.processes} processes, {options.batches} batches of {options.rows} rows",
            [
                ("every row there once", str(part["every_row_once"]), "True"),
                ("acknowledged batches lost", str(part["acknowledged_batches_lost"]), "0"),
                ("kills", str(part["kills"]), ""),
                ("races lost and repeated", str(part["races_lost"]), ""),
                ("batches a second", f"{part['batches_a_second']:.1f}", ""),
                ("append, median", f"{part['append_p50_ms']:.0f} ms", ""),
                ("append, 95th percentile", f"{part['append_p95_ms']:.0f} ms", ""),
                ("live files, of all", f"{part['live_files']}, {part['data_files']}", ""),
            ],
        )
    if options.out:
        sizes = {name: getattr(options, name) for name in ("processes", "batches", "rows", "seed")}
        write_result(options.out, {**sizes, **parts})
    if not all(part["every_row_once"] for part in parts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
