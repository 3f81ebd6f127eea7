"""Gates of a superkernel: on where the norm of the weights that they decide on reaches a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwprof.search.supernet.layout import Gate, Term


def straight_through(margins: Tensor) -> Tensor:
    """1 where a margin is 0 or more, else 0; backward as a sigmoid (Single-Path NAS, Stamoulis et al.
    2019; S3NAS)."""
    soft = margins.sigmoid()
    # The difference is exactly 0, so that the value is exactly 0 or 1.
    return (margins >= 0).to(margins.dtype) + (soft - soft.detach())


class NestedGates(nn.Module):
    """Thresholds of all gates of a supernet.

    u = 1[ norm - t >= 0 ] with the norm relative to what its weights are initialised to: see
    docs/supernet.md for why.

    Attributes:
        thresholds: trainable, 0 at first: every gate is on.
        names: of the gates, in order.
    """

    _drop: Tensor

    def __init__(self, gates: Sequence[Gate]) -> None:
        super().__init__()
        self.names = tuple(gate.name for gate in gates)
        self.thresholds = nn.Parameter(torch.zeros(len(gates)))
        self.drop_probabilities = torch.tensor([gate.drop_probability for gate in gates])

    def forward(self, norms: Tensor) -> Tensor:
        """Gates of shape (gates,), 0 or 1, from relative norms of that shape."""
        return straight_through(norms - self.thresholds)

    def draw(self, generator: torch.Generator) -> list[bool]:
        """Gates after gate dropout: which choice of a dimension they leave is uniform."""
        numbers = torch.rand(len(self.names), generator=generator)
        kept: list[bool] = (numbers >= self.drop_probabilities).tolist()
        return kept


class Products(nn.Module):
    """Products of gates and of their complements, many at once and without a loop over the terms."""

    _factors: Tensor

    def __init__(self, terms: Sequence[Term], gates: int) -> None:
        super().__init__()
        depth = max((len(term) for term in terms), default=0)
        # Of [gates, complements, 1]: the constant 1 fills up short terms.
        factors = torch.full((depth, len(terms)), 2 * gates)
        for column, term in enumerate(terms):
            for row, literal in enumerate(term):
                factors[row, column] = literal.gate + (0 if literal.on else gates)
        self.terms = len(terms)
        self.register_buffer("_factors", factors, persistent=False)

    def forward(self, gates: Tensor) -> Tensor:
        """Products of shape (terms,) from gates of shape (gates,)."""
        values = torch.cat([gates, 1.0 - gates, gates.new_ones(1)])
        product = gates.new_ones(self.terms)
        for row in self._factors:
            product = product * values[row]
        return product


def holds(term: Term, gates: Sequence[bool]) -> bool:
    """Whether a term is 1 under these gates."""
    return all(gates[literal.gate] == literal.on for literal in term)
