"""Knowledge: what a space and a table's rows tell of each choice before any network was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.composition.terms import border_terms, op_terms
from hwprof.errors import MissingRow
from hwprof.graph import cost
from hwprof.lut import Lut
from hwprof.ops import OpSpec
from hwprof.prediction.encoding import Encoding, Floats
from hwprof.space import Choice, Space

SUMMED = ("latency_ms", "p50_ms", "energy_mj")
"""Metrics whose rows make up a network by a composition."""
COSTS = ("flops", "parameters", "bytes_moved")


@dataclass(frozen=True)
class RowTerms:
    """What rows say of each choice, as numbers that add up over a network.

    Attributes:
        names: of the terms: those of compositions, then the rows' sum of each op kind.
        columns: (columns, terms) of the encoding.
        constant: (terms,): what every network has.
    """

    names: tuple[str, ...]
    columns: Floats
    constant: Floats

    def of_networks(self, one_hot: Floats) -> Floats:
        """(networks, terms)."""
        found: Floats = one_hot @ self.columns + self.constant
        return found


@dataclass(frozen=True)
class Knowledge:
    """Facts of the choices of an encoding.

    Attributes:
        counts: (columns, ops): how often each choice runs each op. Choices of different positions that
            run the same op share what is learned of it.
        costs: (columns, 3): FLOPs, parameters and bytes moved of each choice.
        rows: None where the table cannot price every choice; `without_rows` says why.
        chain: whether positions follow each other, so that neighbours meet.
    """

    encoding: Encoding
    counts: Floats
    costs: Floats
    chain: bool
    rows: RowTerms | None = None
    without_rows: str = "no table was given"


def knowledge_of(
    space: Space,
    table: Lut | None = None,
    *,
    metric: str = "latency_ms",
    environment: str | None = None,
    cache: str = "warm",
) -> Knowledge:
    """
    Args:
        table: its op rows of `environment` and `cache` price the choices, if all have one.

    Raises:
        PredictionError: the space has nothing to predict.
    """
    encoding = Encoding.of(space)
    place_of = {op: place for place, op in enumerate(space.ops())}
    costs_of = {op: cost(op.lower()) for op in place_of}
    counts = np.zeros((encoding.columns, len(place_of)))
    costs = np.zeros((encoding.columns, len(COSTS)))
    for column, choice in enumerate(_columns(space, encoding)):
        for op in choice.ops:
            counts[column, place_of[op]] += 1.0
            costs[column] += [getattr(costs_of[op], name) for name in COSTS]
    rows, why = None, "no table was given"
    if table is not None:
        rows, why = _row_terms(space, encoding, table, metric, environment, cache)
    return Knowledge(encoding, counts, costs, space.family == "chain", rows, why)


def _row_terms(
    space: Space, encoding: Encoding, table: Lut, metric: str, environment: str | None, cache: str
) -> tuple[RowTerms | None, str]:
    if metric not in SUMMED:
        return None, f"{metric} of a network is not made of its ops'; only {', '.join(SUMMED)} are"
    ops = space.ops()
    try:
        found = table.latencies_ms(
            ops, metric, environment=environment, cache=cache, allow_unstable=True
        )
    except MissingRow as error:
        return None, str(error)
    value_of = dict(zip(ops, found.tolist(), strict=True))
    terms_of = {op: _terms(op, value_of[op]) for op in ops}
    names = tuple(dict.fromkeys(name for terms in terms_of.values() for name in terms))
    border = border_terms(*_ends(space))
    columns, constants = [], []
    for name in names:
        column, constant = encoding.spread(
            [
                [sum(terms_of[op].get(name, 0.0) for op in c.ops) for c in position.choices]
                for position in space.positions
            ]
        )
        columns.append(column)
        constants.append(constant + border.get(name, 0.0))
    return RowTerms(names, np.stack(columns, -1), np.array(constants)), ""


def _terms(op: OpSpec, value: float) -> dict[str, float]:
    return {"rows": value, **op_terms(op), f"rows of {op.kind}": value}


def _ends(space: Space) -> tuple[OpSpec, OpSpec]:
    runs: Sequence[OpSpec] = [op for p in space.positions for c in p.choices for op in c.ops]
    return runs[0], runs[-1]


def _columns(space: Space, encoding: Encoding) -> list[Choice]:
    return [choice for place in encoding.chosen for choice in space.positions[place].choices]
