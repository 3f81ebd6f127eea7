"""The code of docs/data.md runs as it stands, and the page names what is public."""

from __future__ import annotations

import inspect
import io
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

import pyarrow as pa  # noqa: E402 - after the optional ones
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

import hwprof.search.data as data  # noqa: E402

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG")
    table = {"jpeg": [buffer.getvalue()] * 300, "label": [n % 10 for n in range(300)]}
    pq.write_table(pa.table(table), tmp_path / "images.parquet")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, names)
    assert names["images"].shape == (50, 3, 32, 32)


def test_every_public_name_and_argument_is_documented() -> None:
    names = set(data.__all__) - {"Images", "Normalisation"}
    for function in (data.load_images, data.Batches):
        names |= set(inspect.signature(function).parameters)
    for name in names - {"path"}:
        assert name in PAGE, name
