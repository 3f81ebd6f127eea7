"""Tables of strangers, 100,000 of them: every command that reads a table answers or refuses in one line.

    python benchmarks/fuzz_tables.py --inputs 100000 --processes 2 --work FOLDER \\
        --out benchmarks/results/fuzz_tables.json

Half the inputs are raw bytes changed by atheris (libFuzzer), which is led by the branches that hwprof's
own code takes; half are changed in their structure (`hostile_tables.py`), so that checksums and sizes
fit and the change gets as far as the decoder. Tables and visits files take turns. Inputs are tried in
worker processes with a limit of address space, and of time for each input. A worker that dies or hangs
is counted and replaced, and what it died of is kept in FOLDER, with the counts: a killed run goes on.

What counts as good: the input is refused by a `HwprofError` of one printable line, or all commands work
on it, print nothing that steers a terminal and write no file but the one they are asked for. Those that
take long (`verify` with lint, `diff`, `query`, `merge`, `report`, `export`, `predict`, `validate`,
`fit-predictor`) run on one input in sixteen.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from common import print_table, write_result

ENGINES = ("structure", "bytes")
INPUTS_A_WORKER = 2_500
MOST_BYTES = 1 << 16
SLOW_ONES = 16
"""One input in so many is tried with the slow commands too."""
MODEL = "model.onnx"
BEGINNING = re.compile(r"(/\S+|'[^']*'|\"[^\"]*\"|[\d.,]+)")
MADE = ("lut.parquet", "lut.visits.parquet", "lut.csv", "lut.yaml", "report.html", "predictor")
"""What the commands may leave."""
TRYING = "trying "
OUTCOME = re.compile(r"[\d.]+\t\d+\t.*")
LONGEST_TURN_S = 2.0
SAVED_EVERY_S = 10.0
WRONG = ("crash", "hang", "exception", "message", "output", "wrote")


def make_seeds(folder: Path) -> None:
    """A small table with all that a table can have, and its visits."""
    import numpy as np
    from made_up import made_up_ops, made_up_table, made_up_visits

    from hwprof.graph.onnx_emitter import to_onnx
    from hwprof.lut import write_lut
    from hwprof.ops import conv

    folder.mkdir(exist_ok=True)
    table, here = made_up_table(made_up_ops(8, seed=1), "device", "build", seed=1)
    rows = table.to_pylist()
    ops = [row["op_json"] for row in rows[:3]]
    network = {**rows[0], "granularity": "network", "kind": "chain", "label": "network",
               "op_json": f"[{','.join(ops)}]", "op_id": "0123456789abcdef0123"}  # fmt: skip
    rows += [network, {**rows[1], "cache": "in_chain", "state": "unstable", "reason": "visits disagree"}]
    scope = {"space": "tiny", "environment_id": here.environment_id, "batch": 1, "dtype": "float32",
             "cache": "warm", "statistic": "floor"}  # fmt: skip
    fitted = "2026-11-21T08:00:00+00:00"
    metadata = {
        "spaces": ["tiny"],
        "environments": {here.environment_id: here.to_dict()},
        "licence": "CC-BY-4.0",
        "composition": [
            {"scope": scope, "model": "factor", "coefficients": {"rows": 1.1}, "error": 0.01,
             "networks": [network["op_id"]], "fitted_at": fitted, "hwprof_version": "0.1.0",
             "compared": {}, "sigma": 0.01}
        ],
        "validation": [
            {**scope, "networks": 20, "mean_error": 0.01, "within_1": 0.6, "within_2": 0.9,
             "additive": True, "validated_at": fitted}
        ],
    }  # fmt: skip
    visits = made_up_visits(table, seed=1)
    chosen = np.sort(np.random.default_rng(1).choice(visits.num_rows, 40, replace=False))
    write_lut(folder / "lut.parquet", rows, metadata=metadata, visits=visits.take(chosen))
    (folder / MODEL).write_bytes(to_onnx(conv((1, 16, 14, 14), 16).lower()).SerializeToString())


class Examiner:
    """Tries what users do with a table on one input after the other, in a folder of its own."""

    def __init__(self, seeds: Path, folder: Path) -> None:
        from hwprof.lut.reading import visits_path_of

        self.whole = seeds / "lut.parquet"
        self.table = folder / "lut.parquet"
        self.visits = visits_path_of(self.table)
        self.folder = folder
        self.made = folder.with_name(f"{folder.name}.made")
        self.model = seeds / MODEL
        self._stored = {
            False: self.whole.read_bytes(), True: visits_path_of(self.whole).read_bytes()
        }  # fmt: skip

    def examine(self, data: bytes, visits: bool, few: bool | None = None) -> str:
        """What came of it: `accepted`, `refused ...`, or one of `WRONG` and what.

        Args:
            few: without the slow commands; None: as the bytes have it.
        """
        from hwprof.errors import HwprofError
        from hwprof.lut.guard.text import CONTROLS

        self.table.write_bytes(self._stored[False] if visits else data)
        self.visits.write_bytes(data if visits else self._stored[True])
        shutil.rmtree(self.made, ignore_errors=True)
        self.made.mkdir()
        outcome = "accepted"
        if few is None:
            few = bool(zlib.crc32(data) % SLOW_ONES)
        for command in self._commands(few):
            try:
                told = self._run(command)
            except HwprofError as error:
                told, line = "", str(error)
                if CONTROLS.search(line) or len(line) > 2000:
                    return f"message {command[1]}: {line[:200]!r}"
                outcome = f"refused {BEGINNING.sub('_', line)[:70]}"
            except Exception as error:  # noqa: BLE001  what else there may be is what is looked for
                return f"exception {command[1]}: {type(error).__name__}: {str(error)[:150]}"
            if CONTROLS.search(told.replace("\n", "")):
                return f"output {command[1]}"
            if outcome != "accepted" and command[1] == "info":
                break
        if partial := [place.name for place in self.made.iterdir() if place.name not in MADE]:
            return f"wrote {partial}"
        if left := {place.name for place in self.folder.iterdir()} - {self.table.name, self.visits.name}:
            return f"wrote {sorted(left)}"
        return outcome

    def _commands(self, few: bool) -> list[list[str]]:
        """What is run; `few`: without the slow ones."""
        table = str(self.table)
        made = {name: str(self.made / name) for name in MADE}
        quick = [
            ["lut", "info", table],
            ["look up", table],
            ["facts", table],
            ["lut", "show", table, "--json"],
            ["lut", "cite", table, "--bibtex"],
        ]
        return (
            quick
            if few
            else [
                *quick,
                ["lut", "verify", table],
                ["lut", "show", table, "--limit", "1000"],
                ["lut", "diff", table, str(self.whole)],
                ["lut", "query", table, "select max(label), sum(latency_ms), min(started_at) from lut"],
                ["lut", "query", table, "select count(*), max(p10_ms), max(environment_id) from visits"],
                ["lut", "merge", table, str(self.whole), "--out", made["lut.parquet"]],
                ["lut", "export", table, "--format", "csv", "--out", made["lut.csv"]],
                ["lut", "export", table, "--format", "ofa", "--out", made["lut.yaml"]],
                ["report", table, "--out", made["report.html"]],
                ["predict", str(self.model), "--lut", table, "--cache", "warm", "--allow-missing"],
                ["validate", table, "--cache", "warm"],
                ["fit-predictor", table, "--out", made["predictor"]],
            ]
        )

    def _run(self, command: list[str]) -> str:
        import io

        from hwprof.cli.main import cli

        if command[0] == "look up":
            return self._look_up()
        if command[0] == "facts":
            return self._facts()
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            cli.main(command, standalone_mode=False)
        return out.getvalue()

    def _look_up(self) -> str:
        """A finite number above zero, or an error."""
        from hwprof.lut import load_lut

        lut = load_lut(self.table)
        ids = lut.filter(granularity="op", cache="warm").columns(["op_id"]).column(0).to_pylist()
        if not ids:
            return ""
        lut.find(ids[0])
        found = lut.latencies_ms(ids[:4])
        assert (found > 0).all(), found
        return ""

    def _facts(self) -> str:
        """What the files say of their columns, asked through Python: Arrow may end the process."""
        from hwprof.errors import LutError
        from hwprof.lut.reading import open_table, open_visits

        for stored in (open_table(self.table), open_visits(self.visits)):
            facts = stored.facts
            numbers = range(facts.num_row_groups)
            for group in map(facts.row_group, numbers):
                assert all(each.column_index < facts.num_columns for each in group.sorting_columns)
            for place in range(facts.num_columns):
                with contextlib.suppress(LutError):
                    stored.statistics(facts.schema.column(place).path, numbers)
                    for group in map(facts.row_group, numbers):
                        # A date that Python cannot hold.
                        with contextlib.suppress(OverflowError):
                            group.column(place).to_dict()
        return ""


def work(engine: str, seed: int, inputs: int, seeds: Path, memory_mib: int) -> None:
    """Try inputs and print what came of each, with the time it took."""
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())  # the other one reserves address space in advance
    folder = Path(tempfile.mkdtemp(dir=seeds))
    examiner = Examiner(seeds, folder)
    warm = examiner.examine(examiner.whole.read_bytes(), False, few=True)
    assert warm == "accepted", warm
    limit = virtual_bytes() + (memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    numbers = itertools.count()

    def tried(data: bytes, visits: bool) -> None:
        input_file = seeds / f"{folder.name}.{next(numbers)}.input"
        input_file.write_bytes(bytes([visits]) + data)
        print(TRYING + input_file.name, flush=True)
        start = time.monotonic()
        outcome = " ".join(examiner.examine(data, visits).split())
        seconds = time.monotonic() - start
        if not outcome.startswith(WRONG):
            input_file.unlink()
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{seconds:.3f}\t{peak_mib}\t{outcome}", flush=True)

    print(folder.name, flush=True)
    if engine == "structure":
        structured(seed, inputs, examiner, tried)
    else:
        bytewise(seed, inputs, examiner, tried, folder)


def structured(seed: int, inputs: int, examiner: Examiner, tried: Any) -> None:
    """Inputs that are changed in their structure."""
    from hostile_tables import mutate, take_apart, variants, with_strange_values

    random = Random(seed)
    paths = {False: examiner.whole, True: visits_beside(examiner.whole)}
    parts = {visits: [take_apart(data) for data in variants(path)] for visits, path in paths.items()}
    for _ in range(inputs):
        visits = random.random() < 0.3
        if random.random() < 0.2:
            tried(with_strange_values(paths[visits].read_bytes(), random), visits)
        else:
            tried(mutate(random.choice(parts[visits]), random), visits)


def bytewise(seed: int, inputs: int, examiner: Examiner, tried: Any, folder: Path) -> None:
    """Inputs whose bytes libFuzzer changes. Does not return."""
    import atheris
    from hostile_tables import variants

    corpus = folder.parent / f"{folder.name}.corpus"
    corpus.mkdir()
    for visits, path in ((False, examiner.whole), (True, visits_beside(examiner.whole))):
        for number, data in enumerate(variants(path)):
            (corpus / f"{visits}-{number}").write_bytes(bytes([visits]) + data)
    left = inputs

    def one(data: bytes) -> None:
        nonlocal left
        if left and data:
            left -= 1
            tried(data[1:], bool(data[0] & 1))

    # Some runs have no data.
    options = [f"-runs={inputs * 2}", f"-seed={seed + 1}", f"-max_len={MOST_BYTES}", "-close_fd_mask=2",
               "-rss_limit_mb=0", "-timeout=100000", "-verbosity=0"]  # fmt: skip
    atheris.Setup(["fuzz", *options, str(corpus)], one)
    atheris.Fuzz()


def instrument() -> None:
    """Let atheris see the branches of hwprof's own readers."""
    import atheris

    with atheris.instrument_imports(include=["hwprof.lut"]):
        import hwprof.lut.lint
        import hwprof.lut.table
        import hwprof.lut.trust.verify  # noqa: F401


def visits_beside(path: Path) -> Path:
    from hwprof.lut.reading import visits_path_of

    return visits_path_of(path)


def virtual_bytes() -> int:
    """Address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Worker:
    """A worker process and what it has said."""

    def __init__(self, arguments: argparse.Namespace, engine: str, seed: int, inputs: int) -> None:
        self.engine, self.inputs, self.done = engine, inputs, 0
        options = {"--worker": engine, "--seed": seed, "--inputs": inputs, "--seeds": arguments.seeds,
                   "--memory-mib": arguments.memory_mib}  # fmt: skip
        command = [sys.executable, __file__]
        command += [str(word) for option in options.items() for word in option]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            env={**os.environ, "MALLOC_ARENA_MAX": "2", "COLUMNS": "200"},
        )  # fmt: skip
        self.silent_s = 0.0
        self.trying = ""
        self.folder = ""
        self._partial = b""

    def lines(self) -> list[str] | None:
        """What it has said since; None at its end."""
        assert self.process.stdout is not None
        data = self.process.stdout.read(1 << 16)
        if not data:
            return None
        self.silent_s = 0.0
        *whole, self._partial = (self._partial + data).split(b"\n")
        return [line.decode(errors="replace") for line in whole]


class Campaign:
    """All workers, and what came of their inputs, on from what FOLDER says."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.state = arguments.work / "campaign.json"
        known = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.outcomes: Counter[str] = Counter(known.get("outcomes"))
        self.by_engine: Counter[str] = Counter(known.get("by_engine"))
        self.slowest_s = known.get("slowest_s", 0.0)
        self.peak_mib = known.get("peak_mib", 0)
        self.kept: list[str] = known.get("kept", [])
        self.odd: list[str] = known.get("odd", [])
        self.seed = known.get("seed", arguments.seed)
        self.wall_s = known.get("wall_s", 0.0)
        self.saved_at = time.monotonic()
        share = arguments.inputs // len(arguments.engines)
        self.waiting = {engine: share - self.by_engine[engine] for engine in arguments.engines}

    def save(self) -> None:
        """What was counted. Inputs that a worker is at when this process dies are replaced by others."""
        now = time.monotonic()
        self.wall_s, self.saved_at = self.wall_s + now - self.saved_at, now
        names = ("outcomes", "by_engine", "slowest_s", "peak_mib", "kept", "odd", "seed", "wall_s")
        fresh = self.state.with_suffix(".new")
        fresh.write_text(json.dumps({name: getattr(self, name) for name in names}))
        fresh.replace(self.state)

    def run(self) -> None:
        """Until all inputs were tried."""
        selector = selectors.DefaultSelector()
        looked_at = time.monotonic()
        while True:
            while len(selector.get_map()) < self.arguments.processes and (worker := self._next()):
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
            if not selector.get_map():
                self.save()
                return
            for key, _ in selector.select(timeout=1):
                if not self._hear(key.data):
                    selector.unregister(key.fileobj)
                    self._ended(key.data, "crash")
            # A turn takes a second: where it took longer, this process was stopped and the workers too.
            turn_s = min(time.monotonic() - looked_at, LONGEST_TURN_S)
            looked_at = time.monotonic()
            for key in list(selector.get_map().values()):
                key.data.silent_s += turn_s
                if key.data.silent_s > self.arguments.seconds:
                    key.data.process.kill()
                    selector.unregister(key.fileobj)
                    self._ended(key.data, "hang")
            if looked_at - self.saved_at > SAVED_EVERY_S:
                self.save()

    def _next(self) -> Worker | None:
        for engine, left in self.waiting.items():
            if left > 0:
                inputs = min(left, INPUTS_A_WORKER)
                self.waiting[engine] -= inputs
                self.seed += 1
                return Worker(self.arguments, engine, self.seed, inputs)
        return None

    def _hear(self, worker: Worker) -> bool:
        lines = worker.lines()
        for line in lines or ():
            if not worker.folder:
                worker.folder = line
            elif line.startswith(TRYING):
                worker.trying = line.removeprefix(TRYING)
            elif OUTCOME.fullmatch(line) is None:
                self._note(worker, f"printed {line!r}")
            else:
                seconds, peak_mib, outcome = line.split("\t", 2)
                self.slowest_s = max(self.slowest_s, float(seconds))
                self.peak_mib = max(self.peak_mib, int(peak_mib))
                self._count(worker, outcome)
        return lines is not None

    def _count(self, worker: Worker, outcome: str) -> None:
        """The input that the worker is at came to this."""
        tried, worker.trying = worker.trying, ""
        worker.done += 1
        self.outcomes[outcome] += 1
        self.by_engine[worker.engine] += 1
        if outcome.startswith(WRONG) and len(self.kept) < self.arguments.most_kept:
            place = self.arguments.work / f"{len(self.kept)}.input"
            shutil.copy(self.arguments.seeds / tried, place)
            self.kept.append(f"{place.name}: {outcome}")

    def _note(self, worker: Worker, what: str) -> None:
        """What no worker should do, whatever its input."""
        self.odd.append(f"{worker.engine} {worker.trying or 'between inputs'}: {what}")
        print(self.odd[-1], file=sys.stderr, flush=True)

    def _ended(self, worker: Worker, how: str) -> None:
        """A worker is gone; unless it was done, its last input is to blame and others take its place."""
        code = worker.process.wait()
        error = worker.process.stderr.read().decode(errors="replace") if worker.process.stderr else ""
        if worker.trying:
            self._count(worker, f"{how} {code}")
        elif not worker.done:
            raise SystemExit(f"a worker did not start: {error[-2000:]}")
        elif code:
            self._note(worker, f"ended with {code}: {error[-2000:]}")
        self.waiting[worker.engine] += worker.inputs - worker.done
        for place in self.arguments.seeds.glob(f"{worker.folder}*"):
            shutil.rmtree(place) if place.is_dir() else place.unlink()


def result_of(campaign: Campaign) -> dict[str, Any]:
    """What to write down."""
    kinds = Counter({"accepted": 0, "refused": 0, **dict.fromkeys(WRONG, 0)})
    for outcome, count in campaign.outcomes.items():
        kinds[outcome.split(" ", 1)[0]] += count
    return {
        "inputs": sum(kinds.values()),
        "inputs_by_engine": dict(campaign.by_engine),
        "outcomes": dict(kinds),
        "outcomes_in_words": dict(campaign.outcomes.most_common(80)),
        "slowest_input_s": campaign.slowest_s,
        "peak_memory_mib": campaign.peak_mib,
        "limits": {"memory_mib": campaign.arguments.memory_mib, "seconds": campaign.arguments.seconds},
        "wrong": campaign.kept,
        "odd": campaign.odd,
        "wall_s": round(campaign.wall_s, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="An input that takes longer is a hang."
    )
    parser.add_argument(
        "--memory-mib", type=int, default=2048, help="Address space for reading an input."
    )
    parser.add_argument("--work", type=Path, metavar="FOLDER", default=Path("fuzz_work"))
    parser.add_argument("--most-kept", type=int, default=50)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        if arguments.worker == "bytes":
            instrument()
        work(arguments.worker, arguments.seed, arguments.inputs, arguments.seeds, arguments.memory_mib)
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments.seeds = Path(folder)
        make_seeds(arguments.seeds)
        campaign = Campaign(arguments)
        campaign.run()
        result = result_of(campaign)
    rows = [
        (name, str(count), "0" if name in WRONG else "") for name, count in result["outcomes"].items()
    ]
    print_table(f"{result['inputs']:,} inputs", rows)
    for line in [*result["wrong"], *result["odd"]]:
        print(" ", line)
    print(f"  slowest {result['slowest_input_s']:.2f} s, peak {result['peak_memory_mib']} MiB")
    if arguments.out:
        write_result(arguments.out, result)
    return int(any(result["outcomes"][name] for name in WRONG) or bool(result["odd"]))


if __name__ == "__main__":
    sys.exit(main())
