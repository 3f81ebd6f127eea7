"""A network of a chain space as what compound scaling changes: widths, blocks of each stage, input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import yaml

from hwprof import ops
from hwprof.errors import SpaceError
from hwprof.graph import Shape
from hwprof.ops import OpSpec
from hwprof.ops.construct import se_width
from hwprof.space import Space
from hwprof.space.layers import after_conv

FUSED = "fused_mbconv"
KINDS = ("mbconv", "mixconv", FUSED)


@dataclass(frozen=True)
class Block:
    """A block, all but its input.

    Attributes:
        stage: which stage it belongs to, from 0.
        parts: (kernel size, part of the expansion): hidden channels in units of input channels.
        se_ratio: of squeeze-and-excitation, relative to the input channels; 0 for none.
    """

    stage: int
    channels: int
    stride: int
    fused: bool
    parts: tuple[tuple[int, int], ...]
    se_ratio: float
    activation: str

    def op(self, shape: Shape, dtype: str) -> OpSpec:
        """The block on an input of this shape."""
        if self.fused:
            ((kernel, expansion),) = self.parts
            return ops.fused_mbconv(
                shape, self.channels, kernel, expansion, stride=self.stride,
                activation=self.activation, se_ratio=self.se_ratio, dtype=dtype,
            )  # fmt: skip
        mix = {kernel: part * shape[1] for kernel, part in self.parts}
        return ops.mixconv(
            shape, self.channels, mix, stride=self.stride, activation=self.activation,
            se_ratio=self.se_ratio, dtype=dtype,
        )  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network of stem, blocks and head.

    Attributes:
        input_shape: (N, C, H, W).
        stem, stem_kernel, stem_stride, stem_activation: of the first convolution; `stem` is its width.
        hidden: width of the head's 1x1 convolution; None for a head without.
        classes, head_activation: of the head.
    """

    input_shape: Shape
    dtype: str
    stem: int
    stem_kernel: int
    stem_stride: int
    stem_activation: str
    blocks: tuple[Block, ...]
    hidden: int | None
    head_activation: str
    classes: int

    @property
    def stages(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks of each stage."""
        return tuple(tuple(blocks) for _, blocks in groupby(self.blocks, lambda block: block.stage))

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(len(blocks) for blocks in self.stages)

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the stem and each stage, and of the head's convolution if it has one."""
        of_stages = tuple(blocks[-1].channels for blocks in self.stages)
        return (self.stem, *of_stages, *(() if self.hidden is None else (self.hidden,)))

    def ops(self) -> tuple[OpSpec, ...]:
        """What the network runs, in order.

        Raises:
            OpError: an input is too small for a kernel.
        """
        stem = ops.conv(
            self.input_shape, self.stem, self.stem_kernel, stride=self.stem_stride,
            activation=self.stem_activation, dtype=self.dtype,
        )  # fmt: skip
        made = [stem]
        shape = after_conv(self.input_shape, self.stem, self.stem_stride)
        for block in self.blocks:
            made.append(block.op(shape, self.dtype))
            shape = after_conv(shape, block.channels, block.stride)
        made.append(
            ops.head(shape, self.classes, self.hidden, activation=self.head_activation, dtype=self.dtype)
        )
        return tuple(made)

    def document(self, name: str, summary: str) -> str:
        """A space file (YAML) whose only network is this one. Each run of equal blocks is a stage."""
        head = {"activation": self.head_activation, "classes": self.classes}
        content = {
            "name": name,
            "family": "chain",
            "summary": summary,
            "input": list(self.input_shape[1:]),
            "stem": {
                "channels": self.stem,
                "kernel": self.stem_kernel,
                "stride": self.stem_stride,
                "activation": self.stem_activation,
            },
            "stages": self._stage_documents(),
            "head": head if self.hidden is None else {"hidden": self.hidden, **head},
        }
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=200)

    def _stage_documents(self) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = []
        last: Block | None = None
        for block in self.blocks:
            if last is not None and replace(block, stage=last.stage) == replace(last, stride=1):
                documents[-1]["blocks"] += 1
                continue
            last = block
            expansion = sum(part for _, part in block.parts)
            choices: dict[str, Any] = {
                "kind": FUSED if block.fused else "mixconv",
                "activation": block.activation,
                "choices": [{"expansion": expansion, "mix": dict(block.parts)}],
            }
            if block.se_ratio:
                choices["se_ratio"] = block.se_ratio
            documents.append(
                {
                    "blocks": 1, "channels": block.channels, "stride": block.stride, "block": choices,
                }
            )  # fmt: skip
        return documents


def network_of(space: Space, point: Sequence[int]) -> Network:
    """A point of a chain space; blocks that it skips are left out.

    Raises:
        SpaceError: the point does not fit, or the network is not stem, blocks (MBConv, MixConv,
            fused) and head.
    """
    chosen = space.choices_of(point)
    if space.family != "chain":
        raise SpaceError(f"{space.name} is a {space.family} space; only networks of a chain are scaled")
    blocks: list[Block] = []
    stages: dict[str, int] = {}
    layers: list[OpSpec] = []
    for position, choice in zip(space.positions, chosen, strict=True):
        if position.kind == "layer":
            layers += choice.ops
            continue
        if not choice.ops:
            continue
        stage = stages.setdefault(position.name.partition(".")[0], len(stages))
        if len(choice.ops) != 1 or choice.ops[0].kind not in KINDS:
            kinds = ", ".join(op.kind for op in choice.ops)
            raise SpaceError(
                f"{space.name} {position.name}: {kinds} cannot be scaled; {', '.join(KINDS)} can be"
            )
        blocks.append(_block(choice.ops[0], stage))
    if not blocks or [op.kind for op in layers] != ["conv", "head"]:
        raise SpaceError(f"{space.name} is not a stem, blocks and a head; no other network is scaled")
    stem, head = layers
    network = Network(
        input_shape=stem.shape,
        dtype=stem.dtype,
        stem=stem.out_channels,
        stem_kernel=stem.mix[0][0],
        stem_stride=stem.stride,
        stem_activation=stem.activation,
        blocks=tuple(blocks),
        hidden=head.hidden_channels if head.mix else None,
        head_activation=head.activation,
        classes=head.out_channels,
    )
    if network.ops() != space.point_ops(point):
        raise SpaceError(
            f"{space.name} has a block that no space file can hold (a part of a mix that is no multiple "
            "of its input's width, or a residual left out): it cannot be scaled"
        )
    return network


def _block(op: OpSpec, stage: int) -> Block:
    """The block of an op whose hidden channels are whole multiples of its input's."""
    parts = tuple((kernel, channels // op.in_channels) for kernel, channels in op.mix)
    ratio = op.se_channels / op.in_channels
    if se_width(op.in_channels, ratio) != op.se_channels:
        ratio = (
            op.se_channels + 0.5
        ) / op.in_channels  # the quotient fell just short of the whole number
    return Block(stage, op.out_channels, op.stride, op.kind == FUSED, parts, ratio, op.activation)
