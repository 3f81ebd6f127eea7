"""docs/graph.md knows every primitive, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

from hwprof.graph import Graph
from hwprof.graph.graph import PRIMITIVES
from hwprof.graph.onnx_emitter import ELEMENT_TYPES, OPSET
from hwprof.graph.weights import BIAS_SD

PAGE = (Path(__file__).parents[3] / "docs" / "graph.md").read_text(encoding="utf-8")


def test_every_primitive_has_its_row() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(PRIMITIVES)
    assert f"of {len(PRIMITIVES)} primitives" in PAGE


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"opset {OPSET}" in PAGE
    assert f"standard deviation {BIAS_SD}" in " ".join(PAGE.split())
    assert all(dtype in PAGE for dtype in ELEMENT_TYPES)


def test_the_code_runs() -> None:
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    assert isinstance(names["residual"], Graph)
