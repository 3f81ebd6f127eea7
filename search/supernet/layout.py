"""The gates of a searched block, and what products of gates switch. No PyTorch here.

A term is a product of gates u and of complements 1 - u. For choice j of a dimension with nested gates
u_1 ... u_n it is u_1 ... u_j (1 - u_(j+1)), without the last factor where j = n (S3NAS,
`graph/latency_estimator.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.search.supernet.branches import OFF, SearchedBlock, State


@dataclass(frozen=True)
class Gate:
    """One gate.

    Attributes:
        name: e.g. `stage1.block2.branch3.kernel7`, `stage1.block2.branch1.channels64`,
            `stage1.block2.block`.
        place: from 0, its place among the nested gates of its dimension.
        count: of the gates of its dimension.
        region: the weights whose norm decides: (branch, kernel index or None for all, group or None for
            all), several for a block's own gate.
    """

    name: str
    place: int
    count: int
    region: tuple[tuple[int, int | None, int | None], ...]

    @property
    def drop_probability(self) -> float:
        """1 / (n + 1 - i): with every gate before it on, each choice of the dimension is drawn equally
        often (S3NAS)."""
        return 1.0 / (self.count + 1 - self.place)


@dataclass(frozen=True)
class Literal:
    """The gate with this index (`on`), or its complement."""

    gate: int
    on: bool


Term = tuple[Literal, ...]


@dataclass(frozen=True)
class BlockLayout:
    """Gates and terms of one block. Indices of gates count from 0 within the block.

    Attributes:
        gates: those of each branch's kernels, then of its channels, branch by branch; last the block's.
        kernels: a term for each branch and kernel: on where the kernel is at least that large.
        groups: a term for each branch and channel group: on where the group is.
        off: on where the block is skipped; None where it cannot be.
        states: a term for each of the block's states.
    """

    gates: tuple[Gate, ...]
    kernels: tuple[Term, ...]
    groups: tuple[Term, ...]
    off: Term | None
    states: tuple[Term, ...]


def block_layout(block: SearchedBlock) -> BlockLayout:
    """The gates of a block in their order, and its terms."""
    gates: list[Gate] = []
    kernel_gates: list[list[int]] = []
    group_gates: list[list[int]] = []

    def add(
        names: list[str], regions: list[tuple[tuple[int, int | None, int | None], ...]]
    ) -> list[int]:
        first = len(gates)
        for place, (name, region) in enumerate(zip(names, regions, strict=True)):
            gates.append(Gate(f"{block.position}.{name}", place, len(names), region))
        return list(range(first, len(gates)))

    for number, branch in enumerate(block.branches):
        place = f"branch{number + 1}"
        sizes = branch.kernels[1:]
        names = [f"{place}.kernel{size}" for size in sizes]
        kernel_gates.append(add(names, [((number, i + 1, None),) for i in range(len(sizes))]))
        widths = [sum(branch.groups[: n + 1]) for n in range(len(branch.groups))]
        gated = range(0 if branch.optional else 1, len(widths))
        names = [f"{place}.channels{widths[n]}" for n in gated]
        group_gates.append(add(names, [((number, None, n),) for n in gated]))
    own: list[int] = []
    if block.skip_gate:
        always = [n for n, branch in enumerate(block.branches) if not branch.optional]
        own = add(["block"], [tuple((n, None, 0) for n in always)])

    kernels, groups = [], []
    for number, branch in enumerate(block.branches):
        kernels += [_on(kernel_gates[number][:n]) for n in range(len(branch.kernels))]
        fixed = 0 if branch.optional else 1
        groups += [_on(group_gates[number][: n + 1 - fixed]) for n in range(len(branch.groups))]
    off: Term | None = None
    if block.skip_gate:
        off = (Literal(own[0], False),)
    elif all(branch.optional for branch in block.branches):
        off = tuple(Literal(indices[0], False) for indices in group_gates)
    states = tuple(_state_term(block, state, kernel_gates, group_gates, own) for state in block.states())
    return BlockLayout(tuple(gates), tuple(kernels), tuple(groups), off, states)


def _state_term(
    block: SearchedBlock,
    state: State,
    kernel_gates: list[list[int]],
    group_gates: list[list[int]],
    own: list[int],
) -> Term:
    if state is None:
        return (Literal(own[0], False),)
    term: list[Literal] = [Literal(index, True) for index in own]
    for number, (branch, (kernel, channels)) in enumerate(zip(block.branches, state, strict=True)):
        if (kernel, channels) == OFF:
            term.append(Literal(group_gates[number][0], False))
            continue
        term += _choice(kernel_gates[number], branch.kernels.index(kernel))
        widths = [sum(branch.groups[: n + 1]) for n in range(len(branch.groups))]
        term += _choice(group_gates[number], widths.index(channels) + branch.optional)
    return tuple(term)


def _choice(gates: list[int], number: int) -> Term:
    """The first `number` gates on and the next one off."""
    return _on(gates[:number]) + tuple(Literal(index, False) for index in gates[number : number + 1])


def _on(gates: list[int]) -> Term:
    return tuple(Literal(index, True) for index in gates)
