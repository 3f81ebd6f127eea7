"""The price of a network: its ops' rows put together by a composition. One function for all uses: what
an op, a pair of neighbours and the network's borders each add is what a search differentiates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hwprof.composition.behind import behind_ms, require_behind
from hwprof.composition.composition import COLUMN_OF, Composition, Scope, composition_for
from hwprof.composition.edges import EdgeKey, edge_key, edge_keys, edge_latencies_ms, require_edges
from hwprof.composition.terms import border_terms, op_terms
from hwprof.errors import LutError
from hwprof.lut import Lut
from hwprof.ops import OpSpec


@dataclass(frozen=True)
class Priced:
    """A network's latency and where it comes from.

    Attributes:
        ops_ms: of each op, its edge to the op before it included.
        border_ms: what the network's own borders add.
    """

    latency_ms: float
    ops_ms: tuple[float, ...]
    border_ms: float


class Pricer:
    """Prices networks from one table.

    Args:
        scope: which rows; its composition is the table's, if there is one.
        ops: every op that will be priced.
        composition: None prices by the plain sum of rows.

    Raises:
        MissingRow: ops or edges without a usable row, named.
        LutError: the composition is of another scope.
    """

    def __init__(
        self,
        table: Lut,
        scope: Scope,
        ops: Sequence[OpSpec],
        composition: Composition | None,
        *,
        allow_unstable: bool = False,
    ) -> None:
        if composition is not None and composition.scope != scope:
            raise LutError(f"a composition of {composition.scope} does not price {scope}")
        values = table.latencies_ms(
            ops,
            scope.column,
            environment=scope.environment_id,
            cache=scope.cache,
            allow_unstable=allow_unstable,
        )
        self.composition = composition
        self.rows_ms = dict(zip(ops, values.tolist(), strict=True))
        self._table, self._scope = table, scope
        self._weights = dict(composition.coefficients) if composition else {"rows": 1.0}
        self._edges: dict[EdgeKey, float] = {}
        if composition is not None and composition.uses_edges:
            self._edges = edge_latencies_ms(table, scope)
        self._behind: dict[str, float] = {}
        if composition is not None and composition.uses_behind:
            self._behind = behind_ms(table, scope)

    def op_ms(self, op: OpSpec, *, first: bool = False) -> float:
        """What the op adds wherever it stands.

        Args:
            first: nothing stands before it, so that its time behind a neighbour is that of its row.

        Raises:
            MissingRow: the composition uses rows behind a neighbour and the table lacks the op's.
        """
        terms = {"rows": self.rows_ms[op], **op_terms(op)}
        if "behind" in self._weights:
            if not first:
                require_behind(self._table, [op], self._behind)
            terms["behind"] = self.rows_ms[op] if first else self._behind[op.op_id]
        return self._weighted(terms)

    def edge_ms(self, first: OpSpec, second: OpSpec) -> float:
        """What the second op adds because it follows the first.

        Raises:
            MissingRow: the composition uses edges and the table lacks this one.
        """
        if "edges" not in self._weights:
            return 0.0
        key = edge_key(first, second)
        self.require([key])
        return self._weights["edges"] * self._edges[key]

    def require(self, edges: Sequence[EdgeKey]) -> None:
        """Raises MissingRow where the composition uses edges and the table lacks one of these."""
        if "edges" in self._weights:
            require_edges(self._table, edges, self._edges)

    def border_ms(self, first: OpSpec, last: OpSpec) -> float:
        """What the network's own input and output add."""
        return self._weighted(border_terms(first, last))

    def price(self, ops: Sequence[OpSpec], *, chain: bool = True) -> Priced:
        """The network that runs `ops` in this order.

        Args:
            chain: whether neighbours in `ops` feed each other; in a network with branches they do not,
                and edges say nothing.

        Raises:
            MissingRow: an edge lacks its row.
        """
        if chain:
            self.require(edge_keys(ops))
        ops_ms = [self.op_ms(op, first=place == 0) for place, op in enumerate(ops)]
        if chain:
            for place, (first, second) in enumerate(pairwise(ops), start=1):
                ops_ms[place] += self.edge_ms(first, second)
        border = self.border_ms(ops[0], ops[-1])
        return Priced(sum(ops_ms) + border, tuple(ops_ms), border)

    def _weighted(self, terms: dict[str, float]) -> float:
        return sum(self._weights.get(name, 0.0) * value for name, value in terms.items())


def pricer_for(
    table: Lut, scope: Scope, ops: Sequence[OpSpec], *, allow_unstable: bool = False
) -> Pricer:
    """A pricer with the table's own composition of the scope, if it is calibrated for it.

    Raises:
        MissingRow, LutError: as `Pricer`; also an unknown statistic.
    """
    if scope.statistic not in COLUMN_OF:
        raise LutError(f"statistic {scope.statistic!r} is unknown; choose of {', '.join(COLUMN_OF)}")
    composition = composition_for(table.metadata, scope)
    return Pricer(table, scope, ops, composition, allow_unstable=allow_unstable)
