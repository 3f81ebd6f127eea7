"""Tables as a device would fill them, and the same with faults planted; made without a clock."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwprof.lut import METADATA, Lut, rows_to_table
from hwprof.lut.lint import Finding, lint
from hwprof.ops import OpSpec
from hwprof.space import load_space

INTERVAL = 0.03
NOISE = 0.01


def device_ms(row: dict[str, Any]) -> float:
    """What a row takes on a machine of 50 GFLOP/s, 10 GB/s and 2 us a call."""
    return 2e-3 + row["flops"] / 5e7 + row["bytes_moved"] / 1e7


def scale(row: dict[str, Any], factor: float) -> dict[str, Any]:
    """The row with all its times multiplied."""
    times = [name for name in row if name.endswith("_ms") and row[name] is not None]
    return row | {name: row[name] * factor for name in times}


@pytest.fixture(scope="session")
def measure(make: SimpleNamespace) -> Callable[..., list[dict[str, Any]]]:
    """Rows of ops, in their order: the device's times, a little noise, intervals that know of it."""
    known: dict[OpSpec, dict[str, Any]] = {}

    def rows(
        ops: Iterable[OpSpec], seed: int = 0, speed: float = 1.0, **changes: Any
    ) -> list[dict[str, Any]]:
        made = []
        rng = np.random.default_rng(seed)
        for op in ops:
            if op not in known:
                known[op] = make.row(op)
            value = device_ms(known[op]) / speed * (1 + NOISE * rng.random())
            row = scale(known[op], value / known[op]["latency_ms"])
            low, high = value * (1 - INTERVAL), value * (1 + INTERVAL)
            made.append(row | {"latency_low_ms": low, "latency_high_ms": high} | changes)
        return made

    return rows


@pytest.fixture(scope="session")
def s3nas_ops() -> tuple[OpSpec, ...]:
    return load_space("s3nas").ops()


@pytest.fixture
def s3nas(
    measure: Callable[..., list[dict[str, Any]]], s3nas_ops: tuple[OpSpec, ...]
) -> list[dict[str, Any]]:
    """The 152 rows of a clean s3nas table."""
    return copy.deepcopy(measure(s3nas_ops, space="s3nas"))


@pytest.fixture
def table(make: SimpleNamespace) -> Callable[..., Lut]:
    """A table of rows as they are, unchecked, as another tool might write it."""

    def built(rows: list[dict[str, Any]], name: str = "lut.parquet", **metadata: Any) -> Lut:
        content = rows_to_table(rows)
        facts = {**dict.fromkeys(METADATA), **make.metadata, "spaces": ["s3nas"], **metadata}
        return Lut(facts, len(rows), content.select, Path(name))

    return built


@pytest.fixture
def found(table: Callable[..., Lut]) -> Callable[..., list[Finding]]:
    """Findings of rows; `others` are rows of other tables, further arguments metadata."""

    def run(
        rows: list[dict[str, Any]], space: Any = None, max_age_days: Any = None, **metadata: Any
    ) -> list[Finding]:
        return lint(table(rows, **metadata), space, max_age_days=max_age_days)

    return run
