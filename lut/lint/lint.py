"""lint: everything that looks wrong in a table, worst first."""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.lut.lint.copies import copies
from hwprof.lut.lint.finding import SEVERITIES, Finding
from hwprof.lut.lint.holes import holes
from hwprof.lut.lint.monotone import monotone
from hwprof.lut.lint.rounding import rounding
from hwprof.lut.lint.stale import stale
from hwprof.lut.lint.units import units
from hwprof.lut.lint.values import duplicates, identity, order, values
from hwprof.lut.lint.view import View
from hwprof.lut.table import Lut
from hwprof.space import Space


def lint(
    table: Lut,
    space: Space | None = None,
    others: Sequence[Lut] = (),
    max_age_days: float | None = None,
) -> list[Finding]:
    """What is wrong with a table whose file can be read (`load_lut` refuses others). The rules are in
    docs/lint.md; nothing is measured and nothing changed.

    Args:
        space: the table should price all its ops; None: the shipped spaces that the table names.
        others: tables of other environments, whose latencies may not be the same to the bit.
        max_age_days: older rows are findings; None: any age will do.

    Raises:
        LutError: a column or an environment cannot be read.
    """
    view = View(table)
    found: list[Finding] = []
    for rule in (values, order, identity, duplicates, units, rounding, monotone):
        found += rule(view)
    found += [*copies(view, others), *stale(view, max_age_days), *holes(view, space)]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))
