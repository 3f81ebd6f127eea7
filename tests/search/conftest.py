"""A table of 40 small ops made without a clock, and random spaces over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from hwprof import ops
from hwprof.composition.composition import Composition, Scope
from hwprof.lut import Lut, load_lut, null_row, op_columns, write_lut
from hwprof.ops import OpSpec
from hwprof.space import Choice, Position, Space

HERE, THERE = "env-here", "env-there"
ENVIRONMENTS = {
    name: {"identity": {"runtime": runtime}, "conditions": {}}
    for name, runtime in ((HERE, "ort 1.31"), (THERE, "ort 1.32"))
}
POOL = tuple(ops.conv((1, 3, 8, 8), channels) for channels in range(1, 41))
LATENCIES = dict(
    zip(POOL, np.random.default_rng(5).lognormal(-2.0, 1.0, len(POOL)).tolist(), strict=True)
)


def make_row(op: OpSpec, latency_ms: float, **changes: Any) -> dict[str, Any]:
    row = {**null_row(), **op_columns(op)}
    row |= {
        "environment_id": HERE, "granularity": "op", "cache": "warm", "backend": "onnxruntime",
        "target": "cpu", "threads": 1, "regime": "burst", "source": "measured", "space": "tiny",
        "energy_reason": "no sensor", "peak_memory_source": "not measured", "hwprof_version": "0.1.0",
        "schema_version": 1, "build_id": "b1", "state": "converged", "latency_ms": latency_ms,
        "p50_ms": 2 * latency_ms, "started_at": datetime(2026, 11, 21, tzinfo=UTC),
    }  # fmt: skip
    return row | changes


def save_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Lut:
    metadata = {"spaces": ["tiny"], "environments": ENVIRONMENTS}
    write_lut(path, list(rows), metadata=metadata)
    return load_lut(path)


def make_space(widths: Iterable[Iterable[Iterable[OpSpec]]], name: str = "random") -> Space:
    """A space from the ops of each choice of each position."""
    positions = tuple(
        Position(
            f"block{i}",
            tuple(Choice(f"choice{j}" if ops else "skip", tuple(ops)) for j, ops in enumerate(choices)),
        )
        for i, choices in enumerate(widths)
    )
    return Space(name, "made for a test", "chain", positions)


@st.composite
def spaces(draw: st.DrawFn, most_positions: int = 6, most_choices: int = 5) -> Space:
    """A stem, then skips (no ops), choices of several ops with repetition, positions of one choice."""
    op = st.sampled_from(POOL)
    choice = st.lists(op, min_size=0, max_size=3)
    position = st.lists(choice, min_size=1, max_size=most_choices)
    return make_space([[[draw(op)]], *draw(st.lists(position, max_size=most_positions - 1))])


def priced(space: Space) -> list[list[float]]:
    """Latency of each choice, summed by hand."""
    return [[sum(LATENCIES[op] for op in c.ops) for c in p.choices] for p in space.positions]


@pytest.fixture(scope="session")
def pool_lut(tmp_path_factory: pytest.TempPathFactory) -> Lut:
    """A row for each op of the pool."""
    rows = [make_row(op, latency) for op, latency in LATENCIES.items()]
    return save_rows(tmp_path_factory.mktemp("pool") / "lut.parquet", rows)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Lut]:
    return lambda rows: save_rows(tmp_path / "lut.parquet", rows)


def calibrated(table: Lut, space: Space, weights: dict[str, float], sigma: float = 0.0) -> Lut:
    """The same rows with a composition of these weights for the space, in a file beside it."""
    scope = Scope(HERE, space.name, 1, "float32", "warm", "floor")
    composition = Composition(
        scope, "made", weights, ("0" * 20,), 0.0, sigma, {}, "2026-11-21T00:00:00+00:00", "0.1.0"
    )
    path = table.path.with_name(f"calibrated-{space.space_hash[:8]}-{sigma}-{table.path.name}")
    metadata = {**table.metadata, "composition": [composition.to_dict()]}
    write_lut(path, table.table.to_pylist(), metadata=metadata)
    return load_lut(path)


@pytest.fixture(scope="session")
def save_to() -> Callable[..., Lut]:
    return save_rows


class Make:
    """The helpers of this module, for tests (which cannot import it)."""

    pool, latencies, here, there = POOL, LATENCIES, HERE, THERE
    row, space, spaces, priced = map(staticmethod, (make_row, make_space, spaces, priced))
    calibrated = staticmethod(calibrated)


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make
