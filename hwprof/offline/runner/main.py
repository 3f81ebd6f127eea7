"""Measure the models of plan.json with worker processes, in shuffled rounds, and write results.jsonl."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from hwprof.offline.runner.facts import (
    describe_device,
    difference,
    measuring_cores,
    usable_cores,
)
from hwprof.offline.runner.lines import FORMAT, Refused, Results
from hwprof.offline.runner.worker import serve

START_LIMIT_S = 120.0
PROGRESS_S = 5.0
CRASHES_ALLOWED = 1
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerGone(Exception):
    """A worker process crashed, or hung and was killed."""

    def __init__(self, reason: str, late: bool) -> None:
        super().__init__(reason)
        self.late = late


class WorkerProcess:
    """One worker, this same file in another process, asked one thing at a time."""

    def __init__(self, plan_path: str, cores: list[int], log: str) -> None:
        """Raises Refused where no process can be started or the runtime is missing."""
        command = [sys.executable, os.path.abspath(__file__), "--worker", json.dumps([plan_path, cores])]
        environment = {**os.environ, **dict.fromkeys(SINGLE_THREADED, "1")}
        try:
            with open(log, "ab") as errors:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=environment,
                )
        except (OSError, ValueError, NotImplementedError) as error:
            raise Refused(
                f"the Python of this device ({sys.executable}) cannot start processes ({error}), and a "
                "number needs several of them: use Termux or ssh"
            ) from None
        self._late = False
        try:
            self.ready = self._read(START_LIMIT_S)
        except WorkerGone as gone:
            raise Refused(f"a worker process does not start: {gone}; see {log}") from None
        if "refused" in self.ready:
            self.end()
            raise Refused(self.ready["refused"])

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """The answer to a request. Raises WorkerGone."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died this moment: reading tells how
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._read(limit_s)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(limit_s, self._kill_late)
        timer.daemon = True  # else Ctrl-C here would leave the process waiting for its end
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.end()
        code = self._process.returncode
        told = f"ended with exit code {code}"
        if self._late:
            told = f"gave no answer within {limit_s:g} s"
        elif code < 0:
            told = f"died of {signal.Signals(-code).name}"
        raise WorkerGone(f"the worker process {told}", self._late)

    def _kill_late(self) -> None:
        self._late = True
        self._process.kill()


class Run:
    """One start of run.py."""

    def __init__(self, plan_path: str, plan: dict[str, Any], results: Results, log: str) -> None:
        self._plan_path, self._plan, self._results, self._log = plan_path, plan, results, log
        self._ids = [op["id"] for op in plan["ops"] if "model" in op]
        self._limit_s = plan["op_timeout_s"]
        self._cores = measuring_cores(usable_cores(), plan["threads"])
        self._pinned: list[int] | None = None
        # By slot: the worker and its number, which no worker of an earlier start has.
        self._workers: dict[int, tuple[WorkerProcess, int]] = {}
        self._next_process = results.next_process
        protocol = plan["protocol"]
        self._rounds, self._processes = int(protocol["rounds"]), int(protocol["processes"])
        self._begun, self._told, self._made = time.monotonic(), time.monotonic(), 0

    def measure(self) -> int:
        """The number of models that failed, of this start and those before."""
        checker = self._begin()
        try:
            for op_id in self._ids:
                if op_id not in self._results.checked and op_id not in self._results.failed:
                    checker = self._check(checker, op_id)
            checker.end()
            self._begun = time.monotonic()
            for number in range(self._rounds):
                for slot in range(self._processes):
                    order = list(self._ids)
                    random.Random(f"{self._plan['seed']}:{number}:{slot}").shuffle(order)
                    for op_id in order:
                        self._visit(op_id, slot, number)
        finally:
            for worker in (checker, *(worker for worker, _ in self._workers.values())):
                worker.end()
        return len(self._results.failed)

    def _begin(self) -> WorkerProcess:
        """The first worker, and the line that says which device this is."""
        checker = WorkerProcess(self._plan_path, self._cores, self._log)
        self._pinned = checker.ready["pinned"]
        if self._pinned is None:
            say("cannot pin to cores here: the system may move the measurement to slower ones")
        device = describe_device(self._plan["facts"], checker.ready["version"], self._pinned)
        changed = difference(self._results.device or device, device)
        if changed:
            checker.end()
            raise Refused(
                f"this device is not as it was when the results were begun: {changed}; restore it, or "
                "pass --results with a new file name (import-results takes both)"
            )
        self._results.append({"type": "start", "at": time.time(), "device": device})
        return checker

    def _worker(self) -> WorkerProcess:
        """Another worker. Raises Refused where it runs on other cores than this start has told."""
        worker = WorkerProcess(self._plan_path, self._cores, self._log)
        pinned = worker.ready["pinned"]
        if pinned != self._pinned:
            worker.end()
            raise Refused(
                f"a worker process is pinned to the cores {pinned}, the first one was to "
                f"{self._pinned}: the system moved this app; bring it to the front and run it again"
            )
        return worker

    def _check(self, checker: WorkerProcess, op_id: str) -> WorkerProcess:
        """Run a model once and look at its numbers. Returns the worker for the next one."""
        self._progress(f"checking {op_id}")
        while op_id not in self._results.failed:
            if not checker.alive:
                checker = self._worker()
            answer = self._ask(checker, {"do": "check", "id": op_id, "seed": [0]})
            if answer is not None:
                self._results.append({"type": "check", "id": op_id, **answer})
                break
        return checker

    def _visit(self, op_id: str, slot: int, number: int) -> None:
        if (op_id, slot, number) in self._results.done:
            return
        while op_id not in self._results.failed:
            if slot not in self._workers or not self._workers[slot][0].alive:
                self._workers[slot] = self._worker(), self._next_process
                self._next_process += 1
            worker, process = self._workers[slot]
            seed = [self._plan["seed"], process, number, int(op_id[:8], 16)]
            visit = self._ask(worker, {"do": "visit", "id": op_id, "seed": seed})
            if visit is not None:
                place = {"slot": slot, "process": process, "round": number}
                self._results.append({"type": "visit", "id": op_id, **place, "visit": visit})
                self._made += 1
                self._progress(f"{len(self._results.done)} of {self._wanted()} visits")
                return

    def _ask(self, worker: WorkerProcess, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where there is none, which is written down: one failure is final, of crashes
        the second."""
        op_id = request["id"]
        try:
            answer = worker.ask(request, self._limit_s)
        except WorkerGone as gone:
            if gone.late:
                self._fail(op_id, "timeout", str(gone))
                return None
            self._results.append({"type": "crash", "id": op_id, "reason": str(gone)})
            if self._results.crashes[op_id] > CRASHES_ALLOWED:
                self._fail(op_id, "failed", f"{gone}, {self._results.crashes[op_id]} times")
            return None
        if "failure" in answer:
            self._fail(op_id, "failed", answer["failure"])
            return None
        return answer

    def _fail(self, op_id: str, state: str, reason: str) -> None:
        self._results.append({"type": "failure", "id": op_id, "state": state, "reason": reason})
        say(f"{state}: {op_id}: {reason}")

    def _wanted(self) -> int:
        alive = [op_id for op_id in self._ids if op_id not in self._results.failed]
        return len(alive) * self._rounds * self._processes

    def _progress(self, doing: str) -> None:
        now = time.monotonic()
        if now - self._told < PROGRESS_S:
            return
        self._told = now
        left = max(0, self._wanted() - len(self._results.done))
        minutes = left * (now - self._begun) / max(1, self._made) / 60
        say(f"{doing}, {len(self._results.failed)} failed, about {minutes:.1f} minutes left")


def load_plan(path: str) -> tuple[dict[str, Any], str]:
    """The plan and the sha256 of its file, every model held to its own. Raises Refused."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        plan: dict[str, Any] = json.loads(content)
        written = plan["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is no plan ({error}); copy the whole exported folder") from None
    if written != FORMAT:
        raise Refused(f"{path} is a plan of format {written}, this run.py reads {FORMAT}")
    for op in plan["ops"]:
        if "model" not in op:
            continue  # it could not be compiled
        model = os.path.join(os.path.dirname(path), op["model"])
        try:
            with open(model, "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise Refused(f"{model}: {error.strerror}; copy the whole exported folder again") from None
        if found != op["sha256"]:
            raise Refused(f"{model} is damaged (its sha256 is not the plan's); copy it again")
    return plan, hashlib.sha256(content).hexdigest()


def check_fits(plan: dict[str, Any]) -> None:
    """Raise Refused where this device cannot run what the plan holds."""
    cores = len(usable_cores())
    if plan["threads"] > cores:
        raise Refused(f"the plan wants {plan['threads']} threads, {cores} cores can be used here")


def say(text: str) -> None:
    sys.stderr.write(f"run.py: {text}\n")


def main(argv: list[str]) -> int:
    """Exit code: 0 done; 1 done, some models failed; 2 refused; 130 interrupted."""
    folder = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Measure the models of plan.json on this device.")
    parser.add_argument(
        "--results",
        default=os.path.join(folder, "results.jsonl"),
        help="where the results go; what is there already is taken up (default: beside this file)",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.worker:
        serve(*json.loads(chosen.worker))
        return 0
    plan_path = os.path.join(folder, "plan.json")
    try:
        plan, plan_hash = load_plan(plan_path)
        check_fits(plan)
        results = Results(chosen.results, plan_hash)
        failed = Run(plan_path, plan, results, chosen.results + ".log").measure()
    except Refused as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where it stopped")
        return 130
    say(f"done, {failed} models failed; carry {chosen.results} back and run hwprof import-results on it")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
