"""What merged tables say about themselves. Every rule takes one of several by an order that does not
depend on who is merged with whom first, so that merging is associative."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.lut.schema import ORIGIN_LENGTH
from hwprof.stats import INTERVAL_LEVEL
from hwprof.text import shown

NO_LICENCE = "NOASSERTION"
"""SPDX's word for tables without a licence, once they are merged with others that have one."""
JOINED, OR = " AND ", " OR "
LICENCE_NAME = re.compile(r"[\w.+:-]+( WITH [\w.+:-]+)?")
FACTS = ("content_hash", "created_at", "hwprof_version", "licence")
FACTS_IF_TOLD = ("title", "authors")
VALIDATION_SCOPE = (
    "environment_id", "space", "batch", "dtype", "cache", "statistic", "measured_in",
)  # fmt: skip

Facts = Mapping[str, Any]


def origin_of(metadata: Facts) -> str:
    """The name under which rows of a table stand in `origin`: the start of its content hash."""
    return str(metadata["content_hash"])[:ORIGIN_LENGTH]


def merge_metadata(tables: Sequence[Facts], origins: Set[str]) -> dict[str, Any]:
    """Metadata of a merged table whose rows come from `origins`: `merge_facts`, and of each origin
    what its table says of itself.

    A table's title and authors are told of its rows' origin; the merged table has neither.
    """
    return {**merge_facts(tables), "merged": _origins(tables, origins)}


def merge_facts(tables: Sequence[Facts]) -> dict[str, Any]:
    """What all these tables say of their rows.

    Spaces and environments are united; of an environment that several tables describe, the
    conditions that were read last are kept. Of several compositions or validations of one scope the
    last one is kept. Licences are joined as SPDX does (`A AND B`).
    """
    return {
        "spaces": sorted({space for table in tables for space in table["spaces"]}),
        "environments": _environments(tables),
        "composition": _newest(
            tables, "composition", "fitted_at", lambda entry: _canonical(entry.get("scope"))
        ),
        "validation": _newest(
            tables,
            "validation",
            "validated_at",
            lambda entry: _canonical([entry.get(name) for name in VALIDATION_SCOPE]),
        ),
        "licence": join_licences(table["licence"] for table in tables),
    }


def join_licences(licences: Iterable[str | None]) -> str | None:
    """All licences, joined; None only where there is none at all.

    Raises:
        LutError: one that is to be joined with others has a bracket without its other one.
    """
    terms = {term for licence in licences for term in _terms(licence or NO_LICENCE)}
    if not terms:
        return None
    if len(terms) == 1:
        (alone,) = terms
        return None if alone == NO_LICENCE else alone
    for term in sorted(terms):
        if not _balanced(term):
            raise LutError(
                f"the licence {shown(term)} has a bracket without its other one and cannot be joined "
                "with others; change it with hwprof lut set --licence"
            )
    return JOINED.join(sorted({_bracketed(term) for term in terms}))


def _terms(licence: str) -> list[str]:
    """What is joined by AND at the outermost level. A licence is one term where there is an OR beside
    it, since AND binds tighter (SPDX 2.3, annex D), and where it is a sentence that has the word in it.
    """
    if not _balanced(licence) or OR in _outermost(licence):
        return [licence]
    outer, terms, start = _outermost(licence), [], 0
    while (at := outer.find(JOINED, start)) >= 0:
        terms.append(licence[start:at])
        start = at + len(JOINED)
    terms.append(licence[start:])
    return terms if all(_bracketed(term) == term for term in terms) else [licence]


def _bracketed(term: str) -> str:
    """In brackets, unless it has them or is a name such as SPDX's."""
    return term if LICENCE_NAME.fullmatch(term) or _enclosed(term) else f"({term})"


def _outermost(licence: str) -> str:
    """With all that stands in brackets blanked out, each character in its place."""
    depth, outer = 0, []
    for character in licence:
        depth += character == "("
        outer.append(" " if depth else character)
        depth -= character == ")" and depth > 0
    return "".join(outer)


def _enclosed(term: str) -> bool:
    """Whether one pair of brackets is around all of it."""
    return term.startswith("(") and not _outermost(term).strip()


def _balanced(term: str) -> bool:
    depth = 0
    for character in term:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0


def check_interval_level(name: object, table: Facts) -> None:
    """Raises LutError where a table's intervals have another level than those that are written here."""
    if table["interval_level"] != INTERVAL_LEVEL:
        raise LutError(
            f"{name} has intervals of level {table['interval_level']}, this hwprof writes such of "
            f"{INTERVAL_LEVEL}: they cannot stand in one table"
        )


def check_identities(tables: Sequence[tuple[Path, Facts]]) -> None:
    """Raises LutError where one environment id stands for two identities."""
    known: dict[str, tuple[Path, Environment]] = {}
    for path, table in tables:
        for name, facts in table["environments"].items():
            here = Environment.from_dict(facts)
            first, there = known.setdefault(name, (path, here))
            if differences := there.differences(here):
                field, a, b = differences[0]
                raise LutError(
                    f"environment {name} has {field} {a!r} in {first} and {b!r} in {path}; one of them "
                    "was changed by hand, build it again"
                )


def _environments(tables: Sequence[Facts]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table in tables:
        for name, facts in table["environments"].items():
            found[name] = max(found.get(name, facts), facts, key=_read_last)
    return dict(sorted(found.items()))


def _read_last(facts: Facts) -> tuple[str, str]:
    return str(facts["conditions"].get("time") or ""), _canonical(facts)


def _newest(
    tables: Sequence[Facts], name: str, stamp: str, scope_of: Callable[[Facts], str]
) -> list[Any] | None:
    """Of the entries of one scope the one with the last stamp."""
    found: dict[str, Any] = {}
    for table in tables:
        for entry in table[name] or ():
            scope = scope_of(entry)
            found[scope] = max(
                found.get(scope, entry),
                entry,
                key=lambda each: (str(each.get(stamp) or ""), _canonical(each)),
            )
    return [found[scope] for scope in sorted(found)] or None


def _origins(tables: Sequence[Facts], origins: Set[str]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for table in tables:
        own = {name: table[name] for name in FACTS}
        own |= {name: table[name] for name in FACTS_IF_TOLD if table.get(name) is not None}
        for origin, facts in {origin_of(table): own, **(table["merged"] or {})}.items():
            described[origin] = min(described.get(origin, facts), facts, key=_canonical)
    return {origin: described[origin] for origin in sorted(origins & described.keys())}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
