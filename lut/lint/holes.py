"""Ops of a space that the table cannot price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from hwprof.errors import OpError
from hwprof.lut.lint.finding import Finding
from hwprof.lut.lint.view import ID_DIGITS, View, listed
from hwprof.lut.schema import USABLE_STATES
from hwprof.space import Space, list_spaces, load_space

TOGETHER = ("environment_id", "cache", "batch", "dtype")
ABSENT = "absent"
REPORTED = ("unstable", "unsupported")
"""States that the build has reported: the row is there, and says why a search does not use it."""


def holes(view: View, space: Space | None) -> Iterator[Finding]:
    """Ops of the space without a usable row, for each environment, cache state, batch and dtype that has
    rows of it. Without a space: the shipped ones that the table names, if all their rows are of them."""
    named = [name for name in view.lut.metadata["spaces"] or () if name in list_spaces()]
    for wanted in [space] if space is not None else map(load_space, named):
        found = False
        for (environment, cache, batch, dtype), rows in view.groups(
            view.is_in("granularity", ["op"]), *TOGETHER
        ):
            labels = _labels(wanted, batch, dtype)
            ids, spaces = view.texts("op_id", rows), view.texts("space", rows)
            mine = {op for op, name in zip(ids, spaces, strict=True) if name == wanted.name}
            # A user's own space may have the name of a shipped one.
            if labels.keys() & set(ids) and (space is not None or mine <= labels.keys()):
                found = True
                states = dict(zip(ids, view.texts("state", rows), strict=True))
                where = f"{cache}, batch {batch}, {dtype}{view.where(environment)}"
                yield from _missing(wanted.name, labels, states, where)
        if space is not None and not found:
            yield Finding("warning", "holes", f"no row is of an op of {space.name}")


def _missing(
    name: str, labels: Mapping[str, str], states: Mapping[str, str], where: str
) -> Iterator[Finding]:
    unusable = {op: states.get(op, ABSENT) for op in labels}
    unusable = {op: state for op, state in unusable.items() if state not in USABLE_STATES}
    for severity, reported in (("warning", False), ("note", True)):
        ops = [op for op, state in unusable.items() if (state in REPORTED) == reported]
        if ops:
            states_of = Counter(unusable[op] for op in ops).most_common()
            counts = ", ".join(f"{count} {state}" for state, count in states_of)
            named = listed([f"{labels[op]} ({op[:ID_DIGITS]})" for op in ops[:3]], len(ops))
            words = (
                f"{len(ops)} of {len(labels)} ops of {name} have no usable row for {where} ({counts})"
            )
            yield Finding(severity, "holes", f"{words}: {named}", tuple(ops))


def _labels(space: Space, batch: str | int | None, dtype: str | int | None) -> dict[str, str]:
    """Op id to label of the space's ops at a batch size and dtype; none where there are no such ops."""
    if not isinstance(batch, int) or batch < 1:
        return {}
    try:
        return {op.op_id: op.label for op in space.with_options(batch, str(dtype)).ops()}
    except OpError:
        return {}
