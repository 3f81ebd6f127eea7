"""`kill -9` at random moments of the commands that write what teams share.

    python benchmarks/kill_sharing.py --kills 200 --out benchmarks/results/kill_sharing.json

Each command is killed again and again, at moments spread evenly over the time that it takes; the time to
start Python is left out. A command that has come to its end by then has been acknowledged. After each
kill everything must be readable, whole, and hold all that was acknowledged, and now and then the killed
command is run again and must succeed. `--only` chooses commands by name.

A command is a `Command`: add one to `commands` to kill it too.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from common import print_table, write_result
from made_up import made_up_ops, made_up_table, made_up_visits

from hwprof.build import BuildOptions, build_lut
from hwprof.lut import load_lut, verify_lut, visits_path_of, write_lut
from hwprof.lut.places.cache import cache_folder, file_sha256
from hwprof.lut.registry import list_tables, registry_to_cache
from hwprof.lut.store import Store

ROWS = 2000
WITH_VISITS_EVERY = 4
RUN_AGAIN_EVERY = 5
VICTIM = """
import sys
import deltalake, duckdb, fsspec, pyarrow.parquet
import hwprof.lut.merging, hwprof.lut.registry, hwprof.lut.store
from hwprof.cli.main import main
print("ready", flush=True)
sys.stdin.readline()
main()
"""


@dataclass(frozen=True)
class Command:
    """Something to kill.

    Attributes:
        arguments: of the `hwprof` command in its n-th run, in a folder.
        check: what is wrong in the folder, one line each, given the numbers of the acknowledged runs.
        prepare: called before each run.
    """

    name: str
    arguments: Callable[[int], list[str]]
    check: Callable[[list[int]], list[str]]
    prepare: Callable[[int], None] = lambda number: None


class Tables:
    """Tables of different devices, made when first asked for; one in four has visits."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._digests: dict[str, tuple[int, str]] = {}

    def path(self, number: int) -> Path:
        """The table of a number."""
        path = self._folder / f"table{number}.parquet"
        if not path.exists():
            rows, here = made_up_table(made_up_ops(ROWS, seed=number), f"device {number}", "b", number)
            visits = (
                made_up_visits(rows.slice(0, 200), number) if not number % WITH_VISITS_EVERY else None
            )
            environments = {here.environment_id: here.to_dict()}
            write_lut(path, rows, metadata={"spaces": [], "environments": environments}, visits=visits)
            self._digests[here.environment_id] = number, digests(rows)[here.environment_id]
        return path

    def differing(self, rows: pa.Table, acknowledged: list[int]) -> list[str]:
        """What rows lack of tables, or have of them in part or twice."""
        found = digests(rows)
        wrong = [
            f"rows of table {self._digests[environment][0]} are not as they were"
            for environment, digest in found.items()
            if self._digests[environment][1] != digest
        ]
        there = {self._digests[environment][0] for environment in found}
        return wrong + [f"lost table {number}" for number in acknowledged if number not in there]


def digests(rows: pa.Table) -> dict[str, str]:
    """For each environment, what its rows hash to, whatever their order."""
    names = ["environment_id", "op_id", "latency_ms"]
    frame = rows.select(names).to_pandas().sort_values(names)
    return {
        str(environment): hashlib.sha256(
            "".join(part["op_id"]).encode() + part["latency_ms"].to_numpy().tobytes()
        ).hexdigest()
        for environment, part in frame.groupby("environment_id")
    }


def registry_push(folder: Path, tables: Tables) -> Command:
    """`hwprof lut push TABLE REGISTRY`."""
    place = folder / "registry"

    def check(acknowledged: list[int]) -> list[str]:
        if not (place / "entries").exists():
            return ["no registry"] if acknowledged else []
        listing = list_tables(str(place))
        wrong = list(listing.refused)
        there = {entry.table.sha256 for entry in listing.entries}
        for number in acknowledged:
            if file_sha256(tables.path(number)) not in there:
                wrong.append(f"lost table {number}")
        for entry in listing.entries:
            kept = registry_to_cache(f"{place}/{entry.name}@{entry.table.sha256}")
            verify_lut(kept)
            if file_sha256(kept) != entry.table.sha256:
                wrong.append(f"{entry.name} came back changed")
        shutil.rmtree(cache_folder())
        return wrong

    def arguments(number: int) -> list[str]:
        return ["lut", "push", str(tables.path(number)), str(place), "--name", f"n{number % 7}"]

    return Command("push", arguments, check)


def store_append(folder: Path, tables: Tables) -> Command:
    """`hwprof lut push TABLE delta+STORE`."""
    place = folder / "store"

    def check(acknowledged: list[int]) -> list[str]:
        store = Store(str(place))
        if not store.rows.exists():
            return ["no store"] if acknowledged else []
        rows = store.rows.query("SELECT environment_id, op_id, latency_ms FROM delta")
        return tables.differing(rows, acknowledged)

    def arguments(number: int) -> list[str]:
        return ["lut", "push", str(tables.path(number)), f"delta+{place}"]

    return Command("append", arguments, check)


def store_compact(folder: Path, tables: Tables) -> Command:
    """`hwprof lut compact delta+STORE`, of a store to which a table was pushed in four batches."""
    place = folder / "compacted"
    prepared: list[int] = []

    def prepare(number: int) -> None:
        lut, store = load_lut(tables.path(number)), Store(str(place))
        for part in range(4):
            rows = lut.table.slice(part * ROWS // 4, ROWS // 4)
            store.append(rows, lut.metadata, writer=str(number), sequence=part)
        prepared.append(number)

    def check(acknowledged: list[int]) -> list[str]:
        rows = Store(str(place)).rows.query("SELECT environment_id, op_id, latency_ms FROM delta")
        return tables.differing(rows, prepared)

    return Command("compact", lambda number: ["lut", "compact", str(place)], check, prepare)


def merge_tables(folder: Path, tables: Tables) -> Command:
    """`hwprof lut merge` of one more table into a table that grows."""
    place = folder / "merged.parquet"

    def prepare(number: int) -> None:
        if not place.exists():
            first = tables.path(number)
            shutil.copy(visits_path_of(first), visits_path_of(place))
            shutil.copy(first, place)

    def check(acknowledged: list[int]) -> list[str]:
        verify_lut(place)
        merged = load_lut(place)
        wrong = tables.differing(merged.table, acknowledged)
        visited = merged.visits["environment_id"].unique().to_pylist()
        with_visits = sum(number % WITH_VISITS_EVERY == 0 for number in acknowledged)
        if len(visited) < with_visits:
            wrong.append(f"visits of {len(visited)} tables of {with_visits}")
        return wrong

    def arguments(number: int) -> list[str]:
        return ["lut", "merge", str(place), str(tables.path(number)), "--out", str(place)]

    return Command("merge", arguments, check, prepare)


def build_table(folder: Path, tables: Tables) -> Command:
    """`hwprof build-lut` of a table that has five of its ten rows already."""
    place = folder / "built"
    place.mkdir()
    before: dict[int, set[tuple[str, float]]] = {}

    def path(number: int) -> Path:
        return place / f"table{number}.parquet"

    def prepare(number: int) -> None:
        build_lut(BuildOptions("simulated", "tiny", path(number), effort="fast", limit=5))
        before[number] = measured(path(number))

    def check(acknowledged: list[int]) -> list[str]:
        wrong = []
        for number, rows in before.items():
            verify_lut(path(number))
            there = measured(path(number))
            if not rows <= there:
                wrong.append(f"lost rows of table {number}")
            if number in acknowledged and len(there) != 10:
                wrong.append(f"table {number} has {len(there)} rows of 10")
        return wrong

    def arguments(number: int) -> list[str]:
        words = ["build-lut", "--backend", "simulated", "--space", "tiny", "--effort", "fast"]
        return [*words, "--out", str(path(number))]

    return Command("build", arguments, check, prepare)


def measured(path: Path) -> set[tuple[str, float]]:
    rows = load_lut(path).columns(["op_id", "latency_ms"]).to_pylist()
    return {(row["op_id"], row["latency_ms"]) for row in rows}


def commands(folder: Path) -> list[Command]:
    """What is killed."""
    tables = Tables(folder / "tables")
    return [make(folder, tables) for make in MAKERS]


MAKERS = (registry_push, store_append, store_compact, merge_tables, build_table)


def start(arguments: list[str], home: Path) -> subprocess.Popen[str]:
    """A process that has loaded everything and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "HWPROF_HOME": str(home)},
    )  # fmt: skip
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"hwprof {' '.join(arguments)} does not start")
    return process


def go(process: subprocess.Popen[str], kill_after_s: float | None) -> bool:
    """Let a waiting process run; whether it came to its end."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    try:
        code = process.wait(kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    if code != 0:
        raise SystemExit(f"a command ended with exit code {code}: {process.args}")
    return True


def kill_often(command: Command, kills: int, home: Path, rng: random.Random) -> dict[str, Any]:
    """Kill a command so often, checking after each time."""
    number, done, acknowledged, problems, took = 0, 0, [], [], []
    while len(took) < 3:
        command.prepare(number)
        process = start(command.arguments(number), home)
        began = time.perf_counter()
        go(process, None)
        took.append(time.perf_counter() - began)
        acknowledged.append(number)
        number += 1
    usual_s = statistics.median(took)
    ended = 0
    while done < kills:
        command.prepare(number)
        process = start(command.arguments(number), home)
        if go(process, rng.uniform(0, 1.1 * usual_s)):
            acknowledged.append(number)
            ended += 1
        else:
            done += 1
        problems += [f"{command.name} {number}: {line}" for line in command.check(acknowledged)]
        if not number % RUN_AGAIN_EVERY:
            go(start(command.arguments(number), home), None)
            acknowledged.append(number)
            problems += [
                f"{command.name} {number} again: {line}" for line in command.check(acknowledged)
            ]
        number += 1
    return {
        "kills": done, "usual_s": usual_s, "ended_before_the_kill": ended,
        "acknowledged": len(acknowledged), "problems": problems,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--only", action="append", help="a command's name; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HWPROF_HOME"] = str(folder / "home")
        chosen = [c for c in commands(folder) if not options.only or c.name in options.only]
        rng = random.Random(options.seed)
        results = {
            command.name: kill_often(
                command, options.kills // len(chosen) + (i < options.kills % len(chosen)),
                folder / f"home-{command.name}", rng,
            )
            for i, command in enumerate(chosen)
        }  # fmt: skip
        left = sorted(path.name for path in folder.rglob("*.partial"))
    problems = [line for result in results.values() for line in result["problems"]]
    for name, result in results.items():
        print_table(
            name,
            [
                ("kills", str(result["kills"]), ""),
                ("takes", f"{1e3 * result['usual_s']:.0f} ms", ""),
                ("acknowledged runs", str(result["acknowledged"]), "all there"),
                ("problems", str(len(result["problems"])), "0"),
            ],
        )
    for line in problems[:20]:
        print(line)
    if options.out:
        write_result(options.out, {"commands": results, "hidden_left_overs": len(left)})
    if problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
