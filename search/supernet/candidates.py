"""From gates to the choices of a space: which network the gates are, and its gates for pricing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwprof.search.supernet.branches import SearchedBlock
from hwprof.search.supernet.gates import Products
from hwprof.search.supernet.layout import Literal, Term


def shifted(term: Term, first: int) -> Term:
    """A block's term, with gates counted from the first one of the network."""
    return tuple(Literal(first + literal.gate, literal.on) for literal in term)


class ChoiceGates(nn.Module):
    """U(choice) = sum over the states that are the choice of the product of their gates and complements
    (S3NAS, `graph/latency_estimator.py`; MixConv branches of equal kernel size are one choice).

    Args:
        shape: (positions, most choices of one).
        fixed: (position, choice) of the positions without gates.
        blocks: (position, block, its states' terms) of the others.
        gates: number of gates.
    """

    _targets: Tensor
    _fixed: Tensor

    def __init__(
        self,
        shape: tuple[int, int],
        fixed: Sequence[tuple[int, int]],
        blocks: Sequence[tuple[int, SearchedBlock, Sequence[Term]]],
        gates: int,
    ) -> None:
        super().__init__()
        self.shape = shape
        terms: list[Term] = []
        targets: list[int] = []
        for position, block, of_states in blocks:
            terms += of_states
            targets += [position * shape[1] + block.choice_of(state) for state in block.states()]
        constant = torch.zeros(shape)
        for position, choice in fixed:
            constant[position, choice] = 1.0
        self.products = Products(terms, gates)
        self.register_buffer("_targets", torch.tensor(targets, dtype=torch.long), persistent=False)
        self.register_buffer("_fixed", constant.flatten(), persistent=False)

    def forward(self, gates: Tensor) -> Tensor:
        """(positions, choices), one-hot in value where the gates are 0 or 1."""
        flat = self._fixed.index_add(0, self._targets, self.products(gates))
        return flat.view(self.shape)
