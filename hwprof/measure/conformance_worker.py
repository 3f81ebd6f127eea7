"""The conformance suite in another interpreter: `python -m hwprof.measure.conformance_worker CONFIG`.

That interpreter may lack what compiling needs, so each graph is compiled by the process that started
this one: a line `{"compile": graph}` goes out, a line with the artifact's path or a failure comes back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import CHECKS, DEVICE_CHECKS, Check, run_check
from hwprof.backends.registry import backend_class, load_backend
from hwprof.errors import BackendError, BackendUnavailable, HwprofError, UnsupportedOp
from hwprof.graph import Graph
from hwprof.measure.artifact import read_artifact, write_artifact
from hwprof.measure.interpreter import check_interpreter, make_bundle
from hwprof.measure.messages import WorkerConfig
from hwprof.measure.worker import end_with_parent


def conformance_elsewhere(
    python: Path, name: str, target: Target, checks: tuple[Check, ...]
) -> Iterator[tuple[str, str]]:
    """(check, failure) of each check, run by that interpreter; an empty failure means passed.

    Raises:
        BuildError: the path is no Python that can run a worker.
        BackendUnavailable: the runtime is not in that interpreter.
        BackendError: it died.
    """
    check_interpreter(python)
    backend = load_backend(name)
    config = WorkerConfig(name, target.name, target.threads, target.dtype, target.options, 0, ())
    names = ",".join(check.__name__ for check in checks)
    with make_bundle() as bundle, tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
        process = subprocess.Popen(
            [str(python), "-P", "-m", "hwprof.measure.conformance_worker", config.to_json(), names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": bundle},
            text=True,
            bufsize=1,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                message = json.loads(line)
                if "refused" in message:
                    raise BackendUnavailable(message["refused"])
                if "check" in message:
                    yield message["check"], message["failure"]
                    continue
                graph = Graph.from_dict(message["compile"])
                wanted = Target(**{**config_target(config), "dtype": message["dtype"]})
                answer = _compiled(backend, graph, wanted, Path(folder) / "op.artifact")
                process.stdin.write(json.dumps(answer) + "\n")
            process.stdin.close()
    if process.returncode:
        raise BackendError(f"{python} ended with exit code {process.returncode} amid the checks")


def config_target(config: WorkerConfig) -> dict[str, Any]:
    """The target's fields."""
    return {
        "name": config.target,
        "threads": config.threads,
        "dtype": config.dtype,
        "options": config.options,
    }


def _compiled(backend: Any, graph: Graph, target: Target, path: Path) -> dict[str, str]:
    try:
        write_artifact(path, backend.compile(graph, target))
    except UnsupportedOp as error:
        return {"unsupported": str(error)}
    except HwprofError as error:
        return {"failed": str(error)}
    return {"artifact": str(path)}


def main(argv: list[str]) -> None:
    """Run the named checks, one answer each."""
    config, wanted = WorkerConfig.from_json(argv[1]), argv[2].split(",")
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    base = backend_class(config.backend)

    def compile_there(self: object, graph: Graph, target: Target) -> Artifact:
        answers.write(json.dumps({"compile": graph.to_dict(), "dtype": target.dtype}) + "\n")
        answer = json.loads(sys.stdin.readline())
        if "unsupported" in answer:
            raise UnsupportedOp(answer["unsupported"])
        if "failed" in answer:
            raise BackendError(answer["failed"])
        return read_artifact(Path(answer["artifact"]))

    backend = type("CompiledElsewhere", (base,), {"compile": compile_there})()
    target = Target(**config_target(config))
    try:
        backend.check_target(target)
    except HwprofError as error:
        answers.write(json.dumps({"refused": str(error)}) + "\n")
        return
    for check in (*CHECKS, *DEVICE_CHECKS):
        if check.__name__ in wanted:
            failure = run_check(check, backend, target)
            answers.write(json.dumps({"check": check.__name__, "failure": failure}) + "\n")


if __name__ == "__main__":
    main(sys.argv)
