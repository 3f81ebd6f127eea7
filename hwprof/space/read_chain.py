"""Reads a chain space: stem, stages of blocks, head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

from hwprof import ops
from hwprof.graph import Shape
from hwprof.ops import OpSpec, output_shape
from hwprof.space.choice import Choice, Position
from hwprof.space.document import Field, distinct
from hwprof.space.layers import (
    MAX_STRIDE,
    after_conv,
    checked,
    read_activations,
    read_head,
    read_input,
    read_kernel,
    read_stem,
)
from hwprof.space.space import Space

STAGE_FIELDS = ("blocks", "channels", "stride")
STAGE_OPTIONAL = ("block",)
BLOCK_FIELDS = ("kind", "activation")
BLOCK_OPTIONAL = ("choices", "kernel", "expansion", "se_ratio", "skip")
CHOICE_FIELDS = ("expansion", "mix")
BLOCK_KINDS = ("mixconv", "mbconv", "fused_mbconv", "split_mbconv")
MAX_BLOCKS = 256
MAX_STAGES = 64
MAX_CHOICES = 4096
MAX_EXPANSION = 64
MAX_SE_RATIO = 8.0

Mix = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Candidate:
    """A block choice before its place is known: (kernel, expansion part) pairs, SE ratio, activation,
    and the field that asked for it."""

    field: Field
    mix: Mix
    se_ratio: float
    activation: str

    def label(self, kind: str) -> str:
        parts = ["+".join(f"{kernel}:{part}" for kernel, part in self.mix)]
        if kind == "fused_mbconv":
            parts.insert(0, "fused")
        if self.se_ratio:
            parts.append(f"se{self.se_ratio:g}")
        return " ".join([*parts, self.activation])


@dataclass(frozen=True)
class Block:
    kind: str
    candidates: tuple[Candidate, ...]
    skip: bool


def read_chain(name: str, summary: str, fields: dict[str, Field]) -> Space:
    """The space of a file's fields.

    Raises:
        SpaceError: names file, line and field.
    """
    shape = read_input(fields["input"])
    stem = read_stem(fields["stem"], shape)
    shape = output_shape(stem.choices[0].ops[0])
    shared = _read_block(fields["block"]) if "block" in fields else None
    positions = [stem]
    for number, field in enumerate(fields["stages"].items(MAX_STAGES), start=1):
        values = field.section(STAGE_FIELDS, STAGE_OPTIONAL)
        block = _read_block(values["block"]) if "block" in values else shared
        if block is None:
            raise field.error("the stage has no 'block', nor has the space; describe its choices in one")
        channels = values["channels"].integer()
        stride = values["stride"].integer(most=MAX_STRIDE)
        known: dict[tuple[Shape, int], tuple[Choice, ...]] = {}
        for index in range(values["blocks"].integer(most=MAX_BLOCKS)):
            place = f"stage{number}.block{index + 1}"
            key = (shape, stride if index == 0 else 1)
            if key not in known:
                known[key] = _choices(block, *key, channels, place)
            positions.append(Position(place, known[key]))
            shape = after_conv(shape, channels, key[1])
    positions.append(read_head(fields["head"], shape))
    return Space(name, summary, "chain", tuple(positions))


def _choices(block: Block, shape: Shape, stride: int, channels: int, place: str) -> tuple[Choice, ...]:
    choices = []
    for candidate in block.candidates:
        make = partial(_ops, block.kind, candidate, shape, stride, channels)
        chosen = checked(candidate.field, place, make)
        choices.append(Choice(candidate.label(block.kind), chosen))
    if block.skip and stride == 1 and channels == shape[1]:
        choices.append(Choice("skip", ()))
    return tuple(choices)


def _ops(
    kind: str, candidate: Candidate, shape: Shape, stride: int, channels: int
) -> tuple[OpSpec, ...]:
    if kind == "split_mbconv":
        return _split_mbconv(candidate, shape, stride, channels)
    if kind == "fused_mbconv":
        ((kernel, expansion),) = candidate.mix
        fused = ops.fused_mbconv(
            shape, channels, kernel, expansion, stride=stride,
            activation=candidate.activation, se_ratio=candidate.se_ratio,
        )  # fmt: skip
        return (fused,)
    mix = {kernel: part * shape[1] for kernel, part in candidate.mix}
    mixed = ops.mixconv(
        shape, channels, mix, stride=stride,
        activation=candidate.activation, se_ratio=candidate.se_ratio,
    )  # fmt: skip
    return (mixed,)


def _split_mbconv(candidate: Candidate, shape: Shape, stride: int, channels: int) -> tuple[OpSpec, ...]:
    """An inverted bottleneck without residual as ops that are priced one by one."""
    ((kernel, expansion),) = candidate.mix
    activation = candidate.activation
    parts: list[OpSpec] = []
    if expansion > 1:
        parts.append(ops.conv(shape, expansion * shape[1], activation=activation))
        shape = output_shape(parts[-1])
    parts.append(ops.depthwise(shape, kernel, stride=stride, activation=activation))
    parts.append(ops.conv(output_shape(parts[-1]), channels))
    return tuple(parts)


def _read_block(field: Field) -> Block:
    values = field.section(BLOCK_FIELDS, BLOCK_OPTIONAL)
    kind = values["kind"].text(BLOCK_KINDS)
    mixes = _read_mixes(field, values)
    if kind != "mixconv":
        for where, mix in mixes:
            if len(mix) != 1:
                raise where.error(f"{kind} takes one kernel size, got {len(mix)}; use kind mixconv")
    ratios = [0.0]
    if "se_ratio" in values and kind == "split_mbconv":
        raise values["se_ratio"].error("split_mbconv is made of convolutions alone; leave se_ratio out")
    if "se_ratio" in values:
        found = [(item, item.number(0.0, MAX_SE_RATIO)) for item in values["se_ratio"].items()]
        distinct(found)
        ratios = [ratio for _, ratio in found]
    activations = read_activations(values["activation"])
    count = len(mixes) * len(ratios) * len(activations)
    if count > MAX_CHOICES:
        raise field.error(f"the block has {count} choices, more than {MAX_CHOICES}; list fewer")
    candidates = tuple(
        Candidate(where, mix, ratio, activation)
        for (where, mix), ratio, activation in product(mixes, ratios, activations)
    )
    return Block(kind, candidates, values["skip"].flag() if "skip" in values else False)


def _read_mixes(field: Field, values: dict[str, Field]) -> list[tuple[Field, Mix]]:
    """Mixes from `choices`, or from the product of `kernel` and `expansion`."""
    if "choices" in values:
        for name in ("kernel", "expansion"):
            if name in values:
                raise values[name].error("give either 'choices' or 'kernel' and 'expansion', not both")
        mixes = [(item, _read_mix(item)) for item in values["choices"].items(MAX_CHOICES)]
        distinct(mixes)
        return mixes
    for name in ("kernel", "expansion"):
        if name not in values:
            raise field.error(f"field {name!r} is missing; give 'choices', or 'kernel' and 'expansion'")
    kernels = [(item, read_kernel(item)) for item in values["kernel"].items()]
    expansions = [(item, item.integer(most=MAX_EXPANSION)) for item in values["expansion"].items()]
    distinct(kernels)
    distinct(expansions)
    if len(kernels) * len(expansions) > MAX_CHOICES:
        raise field.error(f"the block has more than {MAX_CHOICES} choices; list fewer")
    return [
        (where, ((kernel, expansion),))
        for (where, kernel), (_, expansion) in product(kernels, expansions)
    ]


def _read_mix(field: Field) -> Mix:
    values = field.section(CHOICE_FIELDS)
    expansion = values["expansion"].integer(most=MAX_EXPANSION)
    mix = [
        (read_kernel(kernel), part.integer(most=MAX_EXPANSION))
        for kernel, part in values["mix"].entries()
    ]
    total = sum(part for _, part in mix)
    if total != expansion:
        parts = " + ".join(str(part) for _, part in mix) or "no parts"
        raise values["mix"].error(
            f"the parts of a mix must add up to its expansion {expansion}, got {parts} = {total}"
        )
    return tuple(sorted(mix))
