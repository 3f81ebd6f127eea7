"""The code of docs/supernet.md runs as it stands, and the page names what is public."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

import pyarrow as pa  # noqa: E402 - after the optional ones
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

import hwprof.search.supernet as supernet  # noqa: E402
from hwprof.lut import Lut  # noqa: E402
from hwprof.space import Space  # noqa: E402

PAGE = (Path(__file__).parents[3] / "docs" / "supernet.md").read_text(encoding="utf-8")


def write_images(path: Path) -> None:
    """160 training and 20 test images of ten classes."""
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(180):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG")
        jpegs.append(buffer.getvalue())
    table = {
        "jpeg": jpegs,
        "label": [n % 10 for n in range(180)],
        "split": ["train"] * 160 + ["test"] * 20,
    }
    pq.write_table(pa.table(table), path)


def test_the_code_runs(
    save: Callable[..., Lut], make: Any, tmp_path: Path, tiny: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    save([make.row(op, 0.1) for op in tiny.ops()])  # as lut.parquet in tmp_path
    write_images(tmp_path / "images.parquet")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, names)
    assert len(names["right"]) == 20
    assert (tmp_path / "network.onnx").is_file()
    assert names["search"].step == 16
    assert tiny.choices_of(names["point"])


def test_every_public_name_is_documented() -> None:
    for name in supernet.__all__:
        assert name in PAGE, name
