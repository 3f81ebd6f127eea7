"""Rows, visits and tables for the tests of lut/: plausible, and made without a clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwprof.lut import Lut, load_lut, null_row, op_columns, write_lut
from hwprof.ops import OpSpec, conv, fc, head, mbconv, mixconv

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
HERE, THERE = "env-here", "env-there"
METADATA = {
    "spaces": ["tiny"],
    "environments": {
        HERE: {
            "identity": {"device": "cpu-a", "runtime": "ort", "runtime_version": "1.31"},
            "conditions": {"host": "h"},
        },
        THERE: {
            "identity": {"device": "cpu-a", "runtime": "ort", "runtime_version": "1.32"},
            "conditions": {"host": "h"},
        },
    },
}
OPS = (
    conv((1, 3, 32, 32), 16, kernel=3, stride=2, activation="relu"),
    mbconv((1, 16, 16, 16), 16, kernel=3, expansion=6, activation="relu6"),
    mbconv((1, 16, 16, 16), 24, kernel=5, expansion=6, activation="hswish", stride=2, se_ratio=0.25),
    mixconv((1, 24, 8, 8), 24, mix={3: 48, 5: 96}, activation="hswish"),
    head((1, 24, 8, 8), 10, hidden=96),
    fc((1, 96), 10),
)


def make_row(op: OpSpec, latency_ms: float | None = 1.0, **changes: Any) -> dict[str, Any]:
    """A measured row, or a failed one for latency None."""
    row = {**null_row(), **op_columns(op)}
    row |= {
        "environment_id": HERE, "granularity": "op", "cache": "warm", "backend": "onnxruntime",
        "target": "cpu", "threads": 1, "regime": "burst", "source": "measured", "space": "tiny",
        "energy_reason": "no sensor", "peak_memory_source": "not measured", "hwprof_version": "0.1.0",
        "schema_version": 1, "build_id": "b1", "started_at": START, "compile_ms": 3.0,
    }  # fmt: skip
    if latency_ms is None:
        return row | {"state": "failed", "reason": "worker died"} | changes
    factors = {
        "latency_ms": 1.0, "latency_low_ms": 0.99, "latency_high_ms": 1.02, "min_ms": 0.98,
        "p10_ms": 1.0, "p50_ms": 1.1, "p90_ms": 1.3, "p99_ms": 2.0,
    }  # fmt: skip
    row |= {name: latency_ms * factor for name, factor in factors.items()}
    row |= {"visits": 24, "clean_visits": 23, "processes": 3, "samples": 400, "state": "converged"}
    return row | changes


def make_visits(row: dict[str, Any], count: int = 3) -> list[dict[str, Any]]:
    """Visits of a measured row."""
    key = {name: row[name] for name in ("op_id", "environment_id", "granularity", "cache")}
    return [
        {
            **key, "process": i % 3, "round": i, "phase": 1, "started_at": START + timedelta(seconds=i),
            "calls": 20, "group": 1, "p10_ms": row["latency_ms"], "p50_ms": 1.1 * row["latency_ms"],
            "p90_ms": 1.2 * row["latency_ms"], "max_ms": 2 * row["latency_ms"], "cpu_share": 0.99,
            "switches": None, "dense_sentinel_ms": 0.5, "memory_sentinel_ms": None, "clean": True,
            "device_mhz": None, "device_throttle": None, "device_temperature_c": None,
        }
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The helpers of this module, for tests (which cannot import it)."""
    return SimpleNamespace(
        ops=OPS, row=make_row, visits=make_visits, metadata=METADATA, here=HERE, there=THERE
    )


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Lut]:
    """Write rows (and their visits) to a table and load it."""

    def write_and_load(
        rows: list[dict[str, Any]], name: str = "lut.parquet", visits: list[dict[str, Any]] | None = None
    ) -> Lut:
        write_lut(tmp_path / name, rows, metadata=METADATA, visits=visits)
        return load_lut(tmp_path / name)

    return write_and_load


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """One converged row per op, of 1, 2, 3, ... ms."""
    return [make_row(op, float(i)) for i, op in enumerate(OPS, start=1)]


@pytest.fixture
def lut(save: Callable[..., Lut], rows: list[dict[str, Any]]) -> Lut:
    """A saved table of `rows` with their visits."""
    return save(rows, visits=[visit for row in rows for visit in make_visits(row)])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what hwprof keeps."""
    monkeypatch.setenv("HWPROF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a real S3-compatible server on loopback, in a process of its own."""
    program = Path(__file__).parent / "places" / "s3_server.py"
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """URL of an empty bucket."""
    import boto3

    settings = {"ENDPOINT_URL": s3_server, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret",
                "DEFAULT_REGION": "us-east-1"}  # fmt: skip
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[str]:
    """URL of an empty folder on a real SFTP server on loopback, with its user's password in it."""
    program = Path(__file__).parent / "places" / "sftp_server.py"
    folder = tmp_path / "sftp"
    folder.mkdir()
    command = [sys.executable, program, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"sftp://team:secret@127.0.0.1:{process.stdout.readline().strip()}/shared"
        process.kill()


@pytest.fixture(params=["file", "memory", "s3", "sftp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Path or URL of an empty folder, at each kind of place in turn."""
    match request.param:
        case "file":
            return str(tmp_path / "there")
        case "s3":
            return f"{request.getfixturevalue('bucket')}/there"
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def memory() -> Iterator[str]:
    """URL of an empty folder in fsspec's memory file system."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield "memory://shared"
    files.store.clear()
