"""docs/ops.md knows every kind, every attribute and how an id is made."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hwprof import ops
from hwprof.graph import ACTIVATIONS
from hwprof.ops import DTYPES, KINDS, OP_ID_VERSION, OpSpec
from hwprof.ops.vocabulary import ALIASES, POOLS

PAGE = (Path(__file__).parents[3] / "docs" / "ops.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """Rows of the table under a heading: the name in the first cell -> the other cells."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


def test_every_kind_has_its_row_with_the_attributes_that_it_uses() -> None:
    documented = {kind: tuple(re.findall(r"`(\w+)`", row[1])) for kind, row in table("Kinds").items()}
    assert documented == {name: kind.uses for name, kind in KINDS.items()}


def test_every_constructor_in_the_table_exists() -> None:
    for row in table("Kinds").values():
        for name in re.findall(r"`(\w+)`", row[2]):
            assert hasattr(ops, name)


def test_every_attribute_has_its_row_and_default() -> None:
    rows = table("Attributes")
    assert set(rows) == {f.name for f in fields(OpSpec)}
    shown = {name: row[0].strip("`") for name, row in rows.items() if row[0] and row[0] != "none"}
    defaults = {f.name: str(f.default).lower() for f in fields(OpSpec) if f.name in shown}
    assert shown == defaults


@pytest.mark.parametrize("word", [*ACTIVATIONS, *DTYPES, *POOLS, *ALIASES])
def test_every_value_is_named(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_the_id_is_defined_as_it_is_computed() -> None:
    assert f"Version {OP_ID_VERSION}" in PAGE
    assert f"hwprof-op-v{OP_ID_VERSION}:" in PAGE
    assert ops.skip((1, 32, 14, 14)).to_json() in PAGE
    assert ops.skip((1, 32, 14, 14)).op_id in PAGE


def test_the_first_example_shows_what_it_prints() -> None:
    op = ops.mixconv((1, 32, 14, 14), 32, {3: 64, 5: 32}, se_ratio=0.25, activation="hswish")
    assert f"op.label  # {op.label}" in PAGE
    assert f"op.op_id  # {op.op_id}" in PAGE


def test_the_code_runs() -> None:
    pytest.importorskip("onnxscript")
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    assert isinstance(names["gelu"], OpSpec)
