"""What a table is: its trust, size and provenance, and its rows' environments, as lines of text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hwprof.environment import Environment
from hwprof.lut import Lut
from hwprof.report.rows import environment_names
from hwprof.report.text import UNKNOWN, counted, percent, visible

MOST_ENVIRONMENTS = 6
DIFFERS = "≠"


def quality(table: Lut) -> dict[str, str]:
    """Name -> what, in the order of a page."""
    found = table.summary()
    errors = found["validated_error"]
    lines = {
        "rows": f"{found['rows']:,} ({_counts(found['rows_by_granularity'])})",
        "converged": percent(found["converged_share"], 1),
        "states": _counts(found["rows_by_state"]),
        f"{found['interval_level']:.0%} interval, median": _plus_minus(
            found["interval_half_width_median"]
        ),
        "interval, 95th percentile": _plus_minus(found["interval_half_width_p95"]),
        "validated error": _errors([] if isinstance(errors, str) else errors),
        "age": f"{found['age_days']:,.1f} days when this page was made",
        "written": visible(found["created_at"]),
        "visits": "with every visit" if found["visits_file"] else "not with this table",
        "cache": _counts(found["rows_by_cache"]),
        "spaces": _value(found["spaces"]) or UNKNOWN,
        "licence": visible(found["licence"] or "none given"),
        "hwprof": visible(found["hwprof_version"]),
        "content hash": visible(found["content_hash"]),
    }
    return lines


def _plus_minus(half: float | None) -> str:
    return "no row has one" if half is None else f"±{percent(half)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {visible(name)}" for name, count in counts.items()) or "none"


def _errors(entries: Sequence[dict[str, Any]]) -> str:
    return "; ".join(
        f"{visible(entry['space'])} {visible(entry['statistic'])}: mean {percent(entry['mean_error'])} "
        f"over {_networks(entry['networks'])}, "
        f"{percent(entry['within_2'], 0)} within 2%"
        for entry in entries
    ) or "not validated"  # fmt: skip


def _networks(count: int | None) -> str:
    """Another version of hwprof may not have written it."""
    return "held-out networks" if count is None else counted(count, "held-out network")


def environments(tables: Sequence[Lut]) -> tuple[list[str], list[list[str]], int]:
    """Names of the environments of all tables' rows (those with the most rows), one line for each field
    of their identities, and how many environments were left out."""
    rows: dict[str, int] = {}
    facts: dict[str, Environment] = {}
    names: dict[str, str] = {}
    for table in tables:
        names |= environment_names(table)
        for counts in table.columns(["environment_id"]).column(0).value_counts().to_pylist():
            identity = counts["values"]
            rows[identity] = rows.get(identity, 0) + counts["counts"]
            facts[identity] = Environment.from_dict(table.environments.get(identity, {}))
    order = sorted(rows, key=lambda identity: -rows[identity])[:MOST_ENVIRONMENTS]
    shown = [facts[identity] for identity in order]
    lines = [["id", *map(visible, order)]]
    lines += _fields([environment.identity for environment in shown])
    conditions = _fields([environment.conditions for environment in shown])
    lines += [[f"{name} (condition)", *values] for name, *values in conditions]
    return [names[identity] for identity in order], lines, len(rows) - len(order)


def _fields(facts: Sequence[Any]) -> list[list[str]]:
    names = dict.fromkeys(name for fact in facts for name in fact)
    lines = [[visible(name), *(_value(fact.get(name)) for fact in facts)] for name in names]
    return [[name if len(set(values)) == 1 else f"{name} {DIFFERS}", *values] for name, *values in lines]


def _value(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(visible(item) for item in value)
    return visible(json.dumps(value))
