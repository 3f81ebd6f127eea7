"""More work in less time, or less work in more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from hwprof.lut.lint.families import families
from hwprof.lut.lint.finding import Finding
from hwprof.lut.lint.inside import inside
from hwprof.lut.lint.mixes import mixes
from hwprof.lut.lint.pairs import Pairs
from hwprof.lut.lint.view import NAMED, View, listed

UNKNOWN_HALF_WIDTH = 0.05
"""Relative, of a row without an interval (imported)."""


def monotone(view: View) -> Iterator[Finding]:
    """Pairs of rows of which one does all that the other does, and more, in less time: beyond both
    intervals and the pair's margin. Each is told by the row that explains the most of them: a single
    wrong row contradicts all its neighbours."""
    left = _contradicted(view, [*families(view), *mixes(view), *inside(view)])
    sides: dict[tuple[int, bool], list[tuple[int, int]]] = defaultdict(list)
    for small, large in left:
        sides[small, True].append((small, large))
        sides[large, False].append((small, large))
    most = Counter({side: len(found) for side, found in sides.items()}).most_common()
    for (row, too_slow), _ in most:
        mine = [pair for pair in sides[row, too_slow] if pair in left]
        if mine:
            partners = {large if too_slow else small: left.pop((small, large)) for small, large in mine}
            yield _finding(view, row, too_slow, partners)


def _contradicted(view: View, pairs: Iterable[Pairs]) -> dict[tuple[int, int], str]:
    """The contradicted pairs, each with what more the larger one does."""
    latency = view.numbers("latency_ms")
    low, high = view.numbers("latency_low_ms"), view.numbers("latency_high_ms")
    low = np.where(np.isnan(low), latency * (1 - UNKNOWN_HALF_WIDTH), low)
    high = np.where(np.isnan(high), latency * (1 + UNKNOWN_HALF_WIDTH), high)
    found = {}
    for each in pairs:
        bad = low[each.smaller] > high[each.larger] * (1 + each.margin)
        smaller, larger = each.smaller[bad].tolist(), each.larger[bad].tolist()
        found.update(dict.fromkeys(zip(smaller, larger, strict=True), each.what))
    return found


def _finding(view: View, row: int, too_slow: bool, partners: dict[int, str]) -> Finding:
    named = [
        f"{view.name(partner)} with {_ms(view, partner)} ({what})"
        for partner, what in list(partners.items())[:NAMED]
    ]
    relation = "longer than what does more" if too_slow else "less than what does less"
    where = view.where(view.texts("environment_id", [row])[0])
    words = f"{view.name(row)}{where} takes {_ms(view, row)}, {relation}: {listed(named, len(partners))}"
    return Finding("warning", "monotone", words, view.ids([row, *partners]))


def _ms(view: View, row: int) -> str:
    return f"{view.numbers('latency_ms')[row]:.4g} ms"
