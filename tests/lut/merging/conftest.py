"""Small tables to merge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwprof.lut import write_lut


@pytest.fixture
def shard(make, tmp_path: Path) -> Callable[..., Path]:
    """Writes a table of rows, with visits or without, and gives its path."""

    def write(name: str, rows: list[dict[str, Any]], *, visits: bool = False, **metadata: Any) -> Path:
        path = tmp_path / f"{name}.parquet"
        made = [v for row in rows if row["latency_ms"] for v in make.visits(row)] if visits else None
        write_lut(path, rows, metadata={**make.metadata, **metadata}, visits=made)
        return path

    return write
