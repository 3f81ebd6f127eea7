"""The layers of FBNet's search space (Wu et al. 2019, arXiv 1812.03443, table 1) and its candidate
blocks (table 2), which tables of latencies name by position only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwprof import ops
from hwprof.errors import LutError
from hwprof.ops import OpSpec

STAGES = ((1, 16), (4, 24), (4, 32), (4, 64), (4, 112), (4, 184), (1, 352))
"""(layers, output channels) of each stage; the stem gives 16 channels."""

LAYOUTS: dict[str | None, tuple[int, tuple[int, ...]]] = {
    "imagenet": (112, (1, 2, 2, 2, 1, 2, 1)),
    "cifar10": (32, (1, 1, 2, 2, 1, 2, 1)),
}
"""Side after the stem and strides of the stages: table 1 at 224 pixels; and as the public PyTorch code
and HW-NAS-Bench (`fbnet_get_metrics`) have it for 32 pixels."""

BLOCKS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""Table 2, in its order."""

GROUPED = {"k3_s2": "k3_e1_g2", "k5_s2": "k5_e1_g2"}
"""Names of the same blocks in facebookresearch's own code: s2 is a shuffle of 2 groups."""

_OWN = re.compile(r"([0-9]{1,4}):([1-4](?:,[1-4]){6})")
_BLOCK = re.compile(r"k([0-9]{1,2})_e([0-9]{1,2})(?:_g([0-9]{1,3}))?")


@dataclass(frozen=True)
class Layer:
    """One position: its input, output channels and stride."""

    shape: tuple[int, int, int, int]
    out_channels: int
    stride: int

    @property
    def text(self) -> str:
        _, channels, side, _ = self.shape
        return f"{side}x{side}x{channels}->{self.out_channels}, stride {self.stride}"


def layers_of(text: str | None, batch: int = 1) -> tuple[Layer, ...]:
    """The 22 layers.

    Args:
        text: `imagenet`, `cifar10`, or `SIDE:S,S,S,S,S,S,S`, the side after the stem and the stride of
            each of the seven stages.
        batch: images of one inference.

    Raises:
        LutError: anything else.
    """
    own = _OWN.fullmatch(text or "")
    if own is not None:
        side, strides = int(own[1]), tuple(map(int, own[2].split(",")))
    elif text in LAYOUTS:
        side, strides = LAYOUTS[text]
    else:
        got = "does not tell its layers" if text is None else f"cannot have the layers {text[:60]!r}"
        raise LutError(
            f"a FBNet table {got}; give --layers imagenet, --layers cifar10, or --layers "
            "SIDE:S,S,S,S,S,S,S (side after the stem, stride of each of the seven stages)"
        )
    made = []
    channels = STAGES[0][1]
    for (count, out_channels), stage_stride in zip(STAGES, strides, strict=True):
        for number in range(count):
            stride = 1 if number else stage_stride
            made.append(Layer((batch, channels, side, side), out_channels, stride))
            channels, side = out_channels, -(-side // stride)
    return tuple(made)


def block_op(name: str, layer: Layer) -> OpSpec:
    """The op of a candidate block at a layer.

    Raises:
        LutError: the block is unknown, or none of our ops computes the same.
        OpError: such an op cannot be, e.g. a kernel larger than its input.
    """
    name = name.removeprefix("ir_")
    name = GROUPED.get(name, name)
    same = layer.stride == 1 and layer.shape[1] == layer.out_channels
    if name == "skip":
        if same:
            return ops.skip(layer.shape)
        return ops.conv(layer.shape, layer.out_channels, stride=layer.stride, activation="relu")
    found = _BLOCK.fullmatch(name)
    if found is None:
        raise LutError(f"block {name[:60]!r} is none of {', '.join(BLOCKS)}")
    kernel, expansion, groups = int(found[1]), int(found[2]), int(found[3] or 1)
    return irf_op(layer, kernel, expansion, groups)


def irf_op(layer: Layer, kernel: int, expansion: int, groups: int) -> OpSpec:
    """FBNet's inverted residual with ReLU.

    Raises:
        LutError: it has groups, or does not expand: both have no op of ours.
        OpError: such an op cannot be.
    """
    if groups != 1:
        raise LutError(f"its 1x1 convolutions have {groups} groups and a channel shuffle: no op of ours")
    if expansion == 1:
        raise LutError(
            "it has a 1x1 convolution before the depthwise one though it does not expand, ours not"
        )
    return ops.mbconv(
        layer.shape, layer.out_channels, kernel, expansion, stride=layer.stride, activation="relu"
    )
