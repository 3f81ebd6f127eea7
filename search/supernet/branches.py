"""Which nested gates reach exactly the choices of a block: its branches, derived from the space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations, combinations_with_replacement, product
from math import gcd

from hwprof.errors import SpaceError
from hwprof.ops import OpSpec
from hwprof.space import Position

NESTED_KINDS = ("mbconv", "mixconv")
MAX_BRANCHES = 6
MAX_KERNELS = 4

Mix = tuple[tuple[int, int], ...]
OFF = (0, 0)


@dataclass(frozen=True)
class Branch:
    """A share of a block's hidden channels that has one kernel size at a time.

    Attributes:
        kernels: sizes to choose from, increasing. Each lies inside the next.
        groups: sizes of its channel groups. The first n are on together, so the branch is as wide as
            one of the sums of the first n.
        optional: whether the branch may be off.
    """

    kernels: tuple[int, ...]
    groups: tuple[int, ...]
    optional: bool

    @property
    def channels(self) -> int:
        return sum(self.groups)

    def states(self) -> list[tuple[int, int]]:
        """(kernel size, channels) of every state, first `OFF` where it is optional."""
        widths = [sum(self.groups[: n + 1]) for n in range(len(self.groups))]
        return [OFF] * self.optional + list(product(self.kernels, widths))


# One (kernel size, channels) per branch; None: the block is skipped by its own gate.
State = tuple[tuple[int, int], ...] | None


@dataclass(frozen=True)
class SearchedBlock:
    """A block position as a superkernel sees it: of its choices those without SE and with one
    activation.

    Attributes:
        position: name of the position.
        op: one of its ops; shape, stride, widths, activation and residual hold for all.
        branches: what the hidden channels are made of, in order.
        skip_gate: the block has a gate of its own, since its branches cannot all be off.
        choices: (mix, index of the choice); the mix () is the skip.
    """

    position: str
    op: OpSpec
    branches: tuple[Branch, ...]
    skip_gate: bool
    choices: tuple[tuple[Mix, int], ...]

    @property
    def hidden_channels(self) -> int:
        return sum(branch.channels for branch in self.branches)

    def states(self) -> list[State]:
        """Every state that its gates can take; several may be one choice."""
        return list(_states(self.branches, self.skip_gate))

    def choice_of(self, state: State) -> int:
        """Index of the choice that a state is."""
        return dict(self.choices)[canonical_mix(state)]


def canonical_mix(state: State) -> Mix:
    """Channels of each kernel size, equal sizes merged; () where every branch is off."""
    merged: Counter[int] = Counter()
    for kernel, channels in state or ():
        merged[kernel] += channels
    return tuple(sorted((kernel, channels) for kernel, channels in merged.items() if channels))


def searched_block(position: Position) -> SearchedBlock:
    """The superkernel of a block position.

    Of a position whose choices differ in SE or activation, those without SE and with the activation
    listed first are searched; S3NAS adds the rest after its search.

    Raises:
        SpaceError: the choices are not what nested kernel and channel gates reach.
    """
    for choice in position.choices:
        kinds = [op.kind for op in choice.ops]
        if len(kinds) > 1 or any(kind not in NESTED_KINDS for kind in kinds):
            raise SpaceError(
                f"{position.name}: choice {choice.label!r} runs {' and '.join(kinds)}; a superkernel "
                f"searches over single ops of kind {' or '.join(NESTED_KINDS)}"
            )
    plain = [c.ops[0] for c in position.choices if c.ops and not c.ops[0].se_channels]
    if not plain:
        raise SpaceError(
            f"{position.name}: no choice without SE, which a superkernel searches; add se_ratio 0"
        )
    op = plain[0]
    choices: dict[Mix, int] = {}
    for index, choice in enumerate(position.choices):
        if not choice.ops and not choice.cut:
            choices[()] = index
        elif choice.ops and choice.ops[0] in plain and choice.ops[0].activation == op.activation:
            choices[choice.ops[0].mix] = index
            _check_alike(position.name, op, choice.ops[0])
    if () in choices and not op.residual:
        raise SpaceError(f"{position.name}: a skip needs residual blocks beside it, {op.label} is none")
    mixes = frozenset(mix for mix in choices if mix)
    unit = gcd(*(channels for mix in mixes for _, channels in mix))
    found = _derive(frozenset(_scaled(mix, unit) for mix in mixes), () in choices)
    widths = {sum(channels for _, channels in mix) for mix in mixes}
    # Where hidden and input widths agree there is no expansion to share.
    if found is None or (op.in_channels in widths and len(widths) > 1):
        labels = ", ".join(position.choices[index].label for index in choices.values())
        raise SpaceError(
            f"{position.name}: nested kernel and channel gates do not reach exactly the choices "
            f"{labels}; give every pair of some kernels and expansions (all above 1), or the mixes of "
            "branches as the space s3nas does"
        )
    branches, skip_gate = found
    branches = tuple(
        Branch(b.kernels, tuple(unit * size for size in b.groups), b.optional) for b in branches
    )
    return SearchedBlock(position.name, op, branches, skip_gate, tuple(choices.items()))


def _check_alike(place: str, first: OpSpec, other: OpSpec) -> None:
    for name in ("shape", "out_channels", "stride", "residual", "dtype"):
        if getattr(first, name) != getattr(other, name):
            raise SpaceError(
                f"{place}: its choices differ in {name} ({getattr(first, name)} and "
                f"{getattr(other, name)}); a superkernel shares one"
            )


def _scaled(mix: Mix, unit: int) -> Mix:
    return tuple((kernel, channels // unit) for kernel, channels in mix)


def _states(branches: tuple[Branch, ...], skip_gate: bool) -> Iterator[State]:
    yield from product(*(branch.states() for branch in branches))
    if skip_gate:
        yield None


def _reached(branches: tuple[Branch, ...], skip_gate: bool) -> set[Mix]:
    return {canonical_mix(state) for state in _states(branches, skip_gate)}


@lru_cache
def _derive(mixes: frozenset[Mix], skip: bool) -> tuple[tuple[Branch, ...], bool] | None:
    """Branches (of sizes in units of the mixes) that reach these mixes and nothing else."""
    wanted = set(mixes) | ({()} if skip else set())
    kernels = sorted({kernel for mix in mixes for kernel, _ in mix})
    if all(len(mix) == 1 for mix in mixes):
        widths = sorted({mix[0][1] for mix in mixes})
        groups = tuple(b - a for a, b in zip([0, *widths], widths, strict=False))
        alone = (Branch(tuple(kernels), groups, skip),)
        return (alone, False) if _reached(alone, False) == wanted else None
    count = max(sum(channels for _, channels in mix) for mix in mixes)
    if count > MAX_BRANCHES or len(kernels) > MAX_KERNELS:
        return None
    for sizes in _branch_kernels(mixes, tuple(kernels), count):
        for optional in product((True, False), repeat=count):
            branches = tuple(Branch(k, (1,), o) for k, o in zip(sizes, optional, strict=True))
            skip_gate = skip and not all(optional)
            if _reached(branches, skip_gate) == wanted:
                return branches, skip_gate
    return None


def _branch_kernels(
    mixes: frozenset[Mix], kernels: tuple[int, ...], count: int
) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Kernel sizes of each of `count` branches, such that all branches on give the widest mixes."""
    widest = {mix for mix in mixes if sum(channels for _, channels in mix) == count}
    # As many branches have a kernel size as the mix with most of it.
    most = {kernel: max((dict(mix).get(kernel, 0) for mix in widest), default=0) for kernel in kernels}
    sizes = range(1, len(kernels) + 1)
    subsets = list(chain.from_iterable(combinations(kernels, size) for size in sizes))
    for chosen in combinations_with_replacement(subsets, count):
        if all(sum(kernel in subset for subset in chosen) == most[kernel] for kernel in kernels):
            whole = tuple(Branch(subset, (1,), False) for subset in chosen)
            if _reached(whole, False) == widest:
                yield chosen
