"""docs/tnd-nas.md and docs/objectives.md: their code runs, and they name all there is."""

import re
from dataclasses import fields
from pathlib import Path

from hwprof.search.discrete.outcome import FRONT, PICTURE
from hwprof.search.discrete.quantities import COUNTS, ENERGY, LATENCY, MEMORY
from hwprof.search.discrete.searches import SEARCHES
from hwprof.search.discrete.shrinking import DEFAULT_STAGES
from hwprof.search.discrete.tnd_nas import UPDATES, TndSettings
from hwprof.space import load_space

DOCS = Path(__file__).parents[3] / "docs"
SEARCH, OBJECTIVES = (DOCS / name for name in ("tnd-nas.md", "objectives.md"))


def code(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_code_of_the_pages_runs():
    names = {}
    for block in code(SEARCH) + code(OBJECTIVES):
        exec(block, names)
    assert len(names["archive"]) == 60
    tiny = load_space("tiny")
    assert names["score"](tiny, tuple(0 for _ in tiny.positions)) >= 0


def test_every_search_file_and_quantity_is_named():
    page = SEARCH.read_text()
    for word in (*SEARCHES, FRONT, PICTURE):
        assert f"`{word}`" in page
    assert f'update="{UPDATES[1]}"' in page
    for word in (*COUNTS, MEMORY, LATENCY, ENERGY):
        assert f"`{word}`" in OBJECTIVES.read_text()


def test_the_default_settings_that_the_page_tells_are_those_of_the_code():
    page = " ".join(SEARCH.read_text().split())
    settings = TndSettings()
    assert settings.policies == 10
    assert "at least) ten weightings" in page
    assert f"first {settings.warm:.0%} of the queries".replace("%", " %") in page
    assert f"{settings.sharing:.0%} of the choices".replace("%", " %") in page
    assert f"{settings.exploration:.0%} uniformly".replace("%", " %") in page
    assert settings.elite == 8
    assert "the eight best networks" in page
    (stage,) = DEFAULT_STAGES
    assert f"After {stage.after:.0%} of the queries".replace("%", " %") in page
    assert f"with {stage.keep:.0%} of its choices".replace("%", " %") in page
    assert {field.name for field in fields(TndSettings)} >= {"update", "rate", "entropy"}
