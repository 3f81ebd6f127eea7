"""The page on predictors shows code that runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from hwprof.prediction import fit_family, save_predictor
from hwprof.prediction.family import MEMBERS
from hwprof.prediction.knowledge import knowledge_of
from hwprof.space import load_space

PAGE = Path(__file__).parents[3] / "docs" / "predictors.md"


@pytest.fixture
def folder(tmp_path):
    """What `hwprof fit-predictor` would leave."""
    space = load_space("tiny")
    rng = np.random.default_rng(0)
    points = np.array([space.sample(rng) for _ in range(60)])
    made = fit_family(knowledge_of(space), points, 1.0 + points.sum(1), members=("additive",))
    save_predictor(made, tmp_path / "p")
    return tmp_path


def test_the_code_of_the_page_runs_in_its_order(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "additive" in capsys.readouterr().out


def test_every_member_has_its_row():
    rows = re.findall(r"^\| `([a-z]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert list(MEMBERS) == [row for row in rows if row in MEMBERS]
