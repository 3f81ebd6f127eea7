"""Rows and fits that newer ones have overtaken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hwprof.environment import Environment
from hwprof.lut.lint.finding import Finding
from hwprof.lut.lint.view import Flags, View, counted

FITS = (("composition", "fitted_at", "calibrate"), ("validation", "validated_at", "validate"))
SCOPE = ("environment_id", "space", "dtype", "cache")


def stale(view: View, max_age_days: float | None) -> Iterator[Finding]:
    """Rows of an older runtime than others of the same device, fits and validations older than the rows
    they are about, and rows older than `max_age_days`."""
    yield from _versions(view)
    for kind, date, command in FITS:
        entries = view.lut.metadata.get(kind)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Mapping):
                yield from _fit(view, kind, entry, entry.get(date), command)
    if max_age_days is not None:
        yield from _age(view, max_age_days)


def _versions(view: View) -> Iterator[Finding]:
    """Environments that differ from another in versions alone, and have the older runtime."""
    facts = {name: Environment.from_dict(facts) for name, facts in view.lut.environments.items()}
    versions: dict[str, dict[str, str]] = {}
    for name in set(view.texts("environment_id", range(len(view)))) & facts.keys():
        identity = facts[name].identity
        same = repr({key: identity[key] for key in sorted(identity) if not key.endswith("version")})
        versions.setdefault(same, {})[name] = str(identity.get("runtime_version"))
    for of_device in versions.values():
        newest = max(of_device.values(), key=_parts)
        for name, version in of_device.items():
            if _parts(version) < _parts(newest):
                rows = np.flatnonzero(view.is_in("environment_id", [name]))
                words = f"{counted(len(rows), 'row')} of environment {name} are of an older runtime "
                words += f"({version}) than others of that device ({newest}): {view.names(rows)}"
                yield Finding("warning", "stale", words, view.ids(rows))


def _fit(view: View, kind: str, entry: Mapping[str, Any], date: Any, command: str) -> Iterator[Finding]:
    """A fit or validation whose rows were measured again after it."""
    made = _time(date)
    scope = entry.get("scope", entry)
    if made is None or not isinstance(scope, Mapping):
        return
    rows = view.priced & (view.numbers("batch") == scope.get("batch"))
    for name in SCOPE:
        rows = rows & view.is_in(name, [str(scope.get(name))])
    rows &= _compared(view, pc.greater, made)
    if found := np.flatnonzero(rows).tolist():
        words = (
            f"{counted(len(found), 'row')} of {scope.get('space')} were measured after the {kind} of "
        )
        words += f"{date} ({scope.get('statistic')}): {view.names(found)}; run `hwprof {command}` again"
        yield Finding("warning", "stale", words, view.ids(found))


def _age(view: View, max_age_days: float) -> Iterator[Finding]:
    oldest = datetime.now(UTC) - timedelta(days=max_age_days)
    if rows := np.flatnonzero(_compared(view, pc.less, oldest)).tolist():
        words = f"{counted(len(rows), 'row')} are older than {max_age_days:g} days: {view.names(rows)}"
        yield Finding("warning", "stale", words, view.ids(rows))


def _compared(view: View, compare: Any, moment: datetime) -> Flags:
    """Where `started_at` is on that side of a moment; false where it is not known."""
    started = view.column("started_at")
    told = compare(started, pa.scalar(moment, started.type))
    flags: Flags = pc.fill_null(told, False).to_numpy()
    return flags


def _time(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _parts(version: str) -> tuple[int, ...]:
    """`1.31.1+cpu` as (1, 31, 1); nothing where it does not start with a number."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
