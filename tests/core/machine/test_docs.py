"""Every field and every check is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprof.doctor import Facts, examine
from hwprof.machine.facts import Spread
from hwprof.machine.fields import CONDITIONS, IDENTITY

DOCS = Path(__file__).parents[3] / "docs"
FACTS = Facts(cores=(0,), machine_cores=(0,), timer_tick_ns=40, noise=Spread(1.0, 1.0))


@pytest.mark.parametrize("field", [*IDENTITY, *CONDITIONS])
def test_field_is_documented(field):
    assert f"`{field}`" in (DOCS / "environment.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("check", [finding.name for finding in examine(FACTS)])
def test_check_is_documented(check):
    assert f"| {check} " in (DOCS / "doctor.md").read_text(encoding="utf-8")
