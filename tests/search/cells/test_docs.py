"""The code of docs/la-darts.md runs as it stands, and its facts are those of the space."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hwprof.search.cells import CELL_SCHEDULES, CellRecipe
from hwprof.search.cells.search import LARGEST_RATE
from hwprof.space import load_space

PAGE = (Path(__file__).parents[3] / "docs" / "la-darts.md").read_text(encoding="utf-8")


def test_the_code_runs() -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, names)
    assert tuple(names["shares"].shape) == (38, 8)
    assert names["network"].graph == names["graph"]
    assert names["other"] != names["point"]


def test_space_and_recipe_are_as_it_says() -> None:
    darts = load_space("darts")
    assert all(f"`{choice.label}`" in PAGE for choice in darts.positions[1].choices)
    names = [position.name for position in darts.positions]
    for number in (0, 1, 14, 15, 28, 29, -2, -1):
        assert f"`{names[number]}`" in PAGE
    assert f"10^{darts.size:.1f}" in PAGE
    recipe = CellRecipe(1)
    assert f"SGD, {recipe.weight_rate} to {recipe.last_weight_rate}" in PAGE
    assert f"temperature\n1 to {recipe.last_temperature}" in PAGE
    assert f"up to {LARGEST_RATE}" in PAGE
    assert recipe.parameter_rate == pytest.approx(3e-4)
    full, reduced = CELL_SCHEDULES["full"], CELL_SCHEDULES["reduced"]
    assert f"{full.search_epochs} epochs, then {full.train_epochs} of the network" in PAGE
    assert f"{reduced.search_epochs} and {reduced.train_epochs}" in PAGE
