"""What every benchmark shares: the environment of a result, and how it is written down."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hwprof.environment import machine_conditions, machine_identity

PACKAGES = (
    "hwprof", "numpy", "onnx", "onnxruntime", "pyarrow", "pandas", "duckdb", "torch", "apache-tvm",
    "apache-tvm-ffi", "ai-edge-litert", "ai-edge-quantizer", "deltalake", "fsspec", "s3fs", "moto",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Machine and versions, without the host's name."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    conditions = {k: v for k, v in machine_conditions().items() if k != "host_name"}
    return {"machine": machine_identity(), "conditions": conditions, "versions": versions}


def write_result(out: Path, result: dict[str, Any]) -> None:
    """The result with its environment, command and date."""
    command = " ".join(["python", *(a if " " not in a else repr(a) for a in sys.argv)])
    stamped = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **result,
        "environment": environment(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(stamped, indent=1, default=str) + "\n")


def print_table(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Figure, measured, goal."""
    print(title)
    width = max(len(row[0]) for row in rows)
    middle = max(len(row[1]) for row in rows)
    for name, measured, goal in rows:
        print(f"  {name:{width}}  {measured:>{middle}}  {goal}")
