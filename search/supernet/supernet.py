"""Supernet: every network of a space in one set of weights, its gates, and the network they are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hwprof.errors import SpaceError
from hwprof.search.supernet.blocks import Coefficients, Superblock
from hwprof.search.supernet.branches import canonical_mix, searched_block
from hwprof.search.supernet.candidates import ChoiceGates, shifted
from hwprof.search.supernet.gates import NestedGates, Products, holds
from hwprof.search.supernet.layers import Head, Stem
from hwprof.search.supernet.layout import Gate, Term
from hwprof.space import Space

PHASES = ("warm", "search")


class Supernet(nn.Module):
    """The superkernel supernet of S3NAS (Lee et al. 2020) over a chain space.

    Of choices that differ in SE or activation those without SE and with the activation listed first are
    searched. In training a forward pass runs, by phase: `warm`, one network drawn by gate dropout;
    `search`, all branches under gates with straight-through gradients. In evaluation it runs the network
    that the thresholds say.

    Args:
        space: a chain of a convolution, blocks of kind mbconv or mixconv, and a head.
        dropout: before the classifier.
        seed: of the initial weights, and of the networks that gate dropout draws.

    Attributes:
        space: as given.
        gate_names: of all gates, in order.
        generator: what gate dropout draws with.

    Raises:
        SpaceError: nested gates do not reach exactly the choices of the space; names the position.
    """

    def __init__(self, space: Space, *, dropout: float = 0.2, seed: int = 0) -> None:
        super().__init__()
        if space.family != "chain" or len(space.positions) < 2:
            raise SpaceError(
                f"{space.name} is a {space.family} space; a supernet is made of a chain of stem, blocks "
                "and head, such as s3nas-cifar"
            )
        self.space = space
        self.phase = "search"
        generator = torch.Generator().manual_seed(seed)
        first, *blocks, last = space.positions
        self.stem = Stem(first.choices[0].ops[0], generator)
        self.blocks = nn.ModuleList(
            Superblock(searched_block(position), generator) for position in blocks
        )
        self.head = Head(last.choices[0].ops[0], generator, dropout)
        self.generator = torch.Generator().manual_seed(seed)
        self._join_gates()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def superblocks(self) -> list[Superblock]:
        return [block for block in self.blocks if isinstance(block, Superblock)]

    @property
    def gate_names(self) -> tuple[str, ...]:
        return self._gates.names

    def set_phase(self, phase: str) -> None:
        """What training runs: `warm` (gate dropout) or `search` (gates).

        Raises:
            SpaceError: another name.
        """
        if phase not in PHASES:
            raise SpaceError(f"phase {phase!r} is not one of {', '.join(PHASES)}")
        self.phase = phase

    def gates(self) -> Tensor:
        """All gates, 0 or 1 in value, of shape (gates,). Their gradients are straight-through, and reach
        the thresholds; weights are trained by what they compute alone (docs/supernet.md says why)."""
        gates: Tensor = self._gates(self._norms())
        return gates

    def margins(self) -> Tensor:
        """How far each gate is from closing, without gradient: norm minus threshold."""
        return self._norms() - self._gates.thresholds.detach()

    @torch.no_grad()
    def limit_flips(self, before: Tensor, most: int, retreat: float) -> None:
        """Of the gates that an update of weights and thresholds flipped, leave those that went farthest
        and stop the others short of it, by their thresholds. Gates of equal blocks would flip together.

        Args:
            before: `margins()` before the update.
            most: how many may flip.
            retreat: margin at which the others stop.
        """
        after = self.margins()
        flipped = (before >= 0) != (after >= 0)
        distance = torch.where(flipped, after.abs(), -torch.ones_like(after))
        allowed = torch.zeros_like(flipped)
        allowed[distance.topk(min(most, len(distance))).indices] = True
        norms = after + self._gates.thresholds
        short = norms - torch.where(before >= 0, retreat, -retreat)
        self._gates.thresholds.copy_(torch.where(flipped & ~allowed, short, self._gates.thresholds))

    def choice_gates(self, gates: Tensor | None = None) -> Tensor:
        """Gates of each choice, (positions, most choices of a position), for `ExpectedLatency`: one-hot
        in value, the network that the gates are now, and straight-through gradients. Choices that are
        not searched are 0.

        Args:
            gates: what `gates()` gave, to save making them again.
        """
        choices: Tensor = self._choices(self.gates() if gates is None else gates)
        return choices

    def point(self) -> tuple[int, ...]:
        """The network that the thresholds say, as a point of the space."""
        return self.point_of(self.states())

    def states(self) -> tuple[int, ...]:
        """State of each block by the thresholds: an index into its `states`."""
        return self._states_of((self.margins() >= 0).tolist())

    def point_of(self, states: Sequence[int]) -> tuple[int, ...]:
        """The point of the space that the states are."""
        chosen = [
            block.block.choice_of(block.states[state])
            for block, state in zip(self.superblocks, states, strict=True)
        ]
        return (0, *chosen, 0)

    def states_of(self, point: Sequence[int]) -> tuple[int, ...]:
        """States that run the mixes of a point, where possible those of now. Its SE and activations,
        which a supernet does not have, are left out.

        Raises:
            SpaceError: the point does not fit the space.
        """
        chosen = self.space.choices_of(point)[1:-1]
        states = []
        for block, choice, current in zip(self.superblocks, chosen, self.states(), strict=True):
            mixes = [canonical_mix(state) for state in block.states]
            mix = choice.ops[0].mix if choice.ops else ()
            states.append(current if mixes[current] == mix else mixes.index(mix))
        return tuple(states)

    def draw(self) -> tuple[int, ...]:
        """States after gate dropout: in each dimension (a branch's kernel, its width) uniform."""
        return self._states_of(self._gates.draw(self.generator))

    def forward(
        self, images: Tensor, *, gates: Tensor | None = None, states: Sequence[int] | None = None
    ) -> Tensor:
        """Logits (N, classes).

        Args:
            images: (N, channels, height, width), normalised.
            gates: run all branches under these gates, whatever phase and mode.
            states: run these states, whatever phase and mode.
        """
        if gates is None and states is None:
            if not self.training:
                states = self.states()
            elif self.phase == "warm":
                states = self.draw()
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        if states is not None:
            for block, state in zip(self.superblocks, states, strict=True):
                x = block.run_state(x, state)
        else:
            parts = self._coefficients(self.gates() if gates is None else gates)
            for block, coefficients in zip(self.superblocks, parts, strict=True):
                x = block(x, coefficients)
        logits: Tensor = self.head(x)
        return logits

    def parameter_groups(self, weight_decay: float = 1e-5) -> list[dict[str, Any]]:
        """Three groups for an optimiser: weights of convolutions and classifier with weight decay;
        BatchNorm and biases without; thresholds, without, under the name `thresholds`."""
        thresholds = self._gates.thresholds
        weights = [p for p in self.parameters() if p is not thresholds]
        return [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
            {"params": [thresholds], "weight_decay": 0.0, "name": "thresholds"},
        ]

    @torch.no_grad()
    def _norms(self) -> Tensor:
        # Norms of 16 bit would open and close gates by rounding.
        with torch.autocast(self._gates.thresholds.device.type, enabled=False):
            return torch.cat([block.norms() for block in self.superblocks])

    def _coefficients(self, gates: Tensor) -> list[Coefficients]:
        products = self._products(gates)
        split = iter(products.split(self._lengths))
        return [
            Coefficients(next(split), next(split), next(split) if block.layout.off else None)
            for block in self.superblocks
        ]

    def _states_of(self, gates: Sequence[bool]) -> tuple[int, ...]:
        return tuple(
            next(number for number, term in enumerate(terms) if holds(term, gates))
            for terms in self._state_terms
        )

    def _join_gates(self) -> None:
        """One tensor of gates for the whole network, and the products of them that blocks and choices
        need."""
        gates: list[Gate] = []
        terms: list[Term] = []
        self._lengths: list[int] = []
        self._state_terms: list[list[Term]] = []
        for block in self.superblocks:
            layout, first = block.layout, len(gates)
            gates += layout.gates
            for part in (layout.kernels, layout.groups, (layout.off,) if layout.off else ()):
                if part:
                    terms += [shifted(term, first) for term in part]
                    self._lengths.append(len(part))
            self._state_terms.append([shifted(term, first) for term in layout.states])
        self._gates = NestedGates(gates)
        self._products = Products(terms, len(gates))
        widths = [len(position.choices) for position in self.space.positions]
        numbered = [
            (place, block.block, terms)
            for place, (block, terms) in enumerate(
                zip(self.superblocks, self._state_terms, strict=True), start=1
            )
        ]
        ends = [(0, 0), (len(widths) - 1, 0)]
        self._choices = ChoiceGates((len(widths), max(widths)), ends, numbered, len(gates))
