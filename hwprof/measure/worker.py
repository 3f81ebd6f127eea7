"""A worker process: `python -m hwprof.measure.worker CONFIG`, one JSON request a line, one answer.

Answers go out through a private copy of standard output; file descriptor 1 itself is turned to
standard error first, so that a runtime which prints cannot garble the protocol.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from hwprof.backends.backend import Artifact, Backend, Target
from hwprof.backends.registry import backend_class
from hwprof.errors import (
    BackendUnavailable,
    BuildError,
    DeviceLost,
    HwprofError,
    OpError,
    UnsupportedOp,
)
from hwprof.measure.artifact import read_artifact, write_artifact
from hwprof.measure.check import check
from hwprof.measure.messages import Compiled, Job, VisitRequest, WorkerConfig
from hwprof.measure.visit import Visitor

KEPT_BYTES = 256 << 20


class Worker:
    """Answers requests: describe the runtime, compile a job, check, soak or visit an artifact."""

    def __init__(self, config: WorkerConfig) -> None:
        self._target = Target(config.target, config.threads, config.dtype, config.options)
        # Not `load_backend`: an interpreter that only runs ops may lack what compiling needs.
        self._backend: Backend = backend_class(config.backend)()
        if config.runs:
            self._backend.check_target(self._target)
        self._visitor = Visitor(self._backend, self._target)
        self._loaded: dict[str, Artifact] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "describe":
                return {"environment": dict(self._backend.environment(self._target))}
            case "compile":
                job = Job.from_dict(request["job"])
                return self._compile(job, Path(request["artifact"])).to_dict()
            case "check":
                graph = Job.from_dict(request["job"]).lower()
                artifact = self._artifact(request["artifact"])
                return asdict(check(self._backend, artifact, graph, self._target))
            case "soak":
                self._visitor.soak(self._artifact(request["artifact"]), request["seconds"])
                return {}
            case "release":
                self._backend.release()
                return {}
        visit = VisitRequest(**{**request["visit"], "seed": tuple(request["visit"]["seed"])})
        return self._visitor.visit(self._artifact(visit.artifact), visit).to_dict()

    def _compile(self, job: Job, path: Path) -> Compiled:
        graph = job.lower()
        start = time.perf_counter()
        artifact = self._backend.compile(graph, self._target)
        compile_ms = (time.perf_counter() - start) * 1e3
        artifact = Artifact(artifact.data, {**artifact.metadata, "op_id": job.job_id})
        try:
            write_artifact(path, artifact)
        except OSError as error:
            raise BuildError(f"{path} cannot be written: {error.strerror}") from None
        return Compiled(str(path), compile_ms, str(artifact.metadata.get("tuning") or ""))

    def _artifact(self, path: str) -> Artifact:
        """Kept in memory while all of them are small: reading a file at each visit takes time."""
        if path not in self._loaded:
            if sum(len(kept.data) for kept in self._loaded.values()) > KEPT_BYTES:
                self._loaded.clear()
            self._loaded[path] = read_artifact(Path(path))
        return self._loaded[path]


def failure(error: Exception) -> dict[str, Any]:
    """An exception as an answer. Its kind decides the row's state (`build`: it is not the row's fault,
    the build stops; `unavailable`: so does a build that has not begun; `lost`: the device, for this
    process at least), its text is the reason."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, HwprofError):
        text = f"{type(error).__name__}: {text}"
    kind = "failed"
    if isinstance(error, (UnsupportedOp, OpError)):
        kind = "unsupported"
    elif isinstance(error, DeviceLost):
        kind = "lost"
    elif isinstance(error, BuildError):
        kind = "build"
    elif isinstance(error, BackendUnavailable):
        kind = "unavailable"
    return {"failure": kind, "reason": text[:500]}


def end_with_parent() -> None:
    """Ask Linux to kill this worker when the pipeline dies: one that hangs would go on spinning on the
    measuring core beside the next build."""
    if sys.platform != "linux":
        return
    import ctypes
    import signal

    set_parent_death_signal = 1
    parent = os.getppid()
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main(argv: list[str]) -> None:
    """Serve requests until standard input ends."""
    config = WorkerConfig.from_json(argv[1])
    end_with_parent()
    answers: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    if config.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(config.cores))
    os.environ["HWPROF_PROCESS"] = str(max(config.process, 0))

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    try:
        worker = Worker(config)
    except Exception as error:  # noqa: BLE001 - reported to the parent, which decides
        send(failure(error))
        return
    send({"ready": True})
    for line in sys.stdin.buffer:
        try:
            send(worker.answer(json.loads(line)))
        except Exception as error:  # noqa: BLE001 - one op's failure must not end the worker
            send(failure(error))


if __name__ == "__main__":
    main(sys.argv)
