"""The code of docs/expected-latency.md runs as it stands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hwprof.lut import Lut  # noqa: E402 - torch is optional
from hwprof.search import ExpectedLatency  # noqa: E402
from hwprof.space import load_space  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs" / "expected-latency.md").read_text(encoding="utf-8")


def test_the_code_runs(
    save: Callable[..., Lut], make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_space("tiny")
    save([make.row(op, 0.1) for op in space.ops()])  # as lut.parquet in tmp_path
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    assert names["logits"].grad.shape == names["latency"].shape
    assert names["expected"].item() > 0


def test_every_argument_and_method_is_documented() -> None:
    for name in inspect.signature(ExpectedLatency).parameters:
        assert name in PAGE
    for name in ("probabilities", "price", "breakdown", "mask", "shape"):
        assert f"latency.{name}" in PAGE
