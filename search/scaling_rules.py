"""Compound scaling: what a network becomes at a coefficient phi.

EfficientNet (Tan and Le 2019, section 3.3) multiplies depth, width and resolution by constants to the
power of phi. S3NAS (Lee et al. 2020) scales a searched network so, with its own rounding of depth and
its own choice of the blocks that are repeated (graph/cpscale.py and etc_utils/scale_model_args.py of its
repository). Its coefficients are not published: with the constants here phi = 1 gives its network L from
its M and phi = 2.13 gives XL, to the last width and block.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from hwprof.errors import SpaceError
from hwprof.graph import Shape, cost
from hwprof.search.scaling_network import Block, Network
from hwprof.space.layers import after_conv

LEAST_WIDTH_SHARE = 0.9
"""A width is never rounded to less than this share of what it should be."""


@dataclass(frozen=True)
class ScalingRule:
    """How phi scales.

    Attributes:
        depth, width, resolution: what each is multiplied by at phi = 1.
        divisor: widths are multiples of it.
        side_multiple: so are height and width of the input.

    Raises:
        SpaceError: a factor below 1 (scaling only grows) or a multiple that is none.
    """

    depth: float = 1.1
    width: float = 1.1
    resolution: float = 1.2
    divisor: int = 16
    side_multiple: int = 4

    def __post_init__(self) -> None:
        factors = (self.depth, self.width, self.resolution)
        for name, factor in zip(("depth", "width", "resolution"), factors, strict=True):
            if not 1 <= factor <= 4:
                raise SpaceError(
                    f"{name} {factor:g} is not 1 to 4: scaling grows a network step by step"
                )
        if max(factors) == 1:
            raise SpaceError("depth, width and resolution are all 1: that scales nothing; raise one")
        for name, value in (("divisor", self.divisor), ("side multiple", self.side_multiple)):
            if not 1 <= value <= 1024:
                raise SpaceError(f"{name} {value} is not 1 to 1024")


def scaled(network: Network, phi: float, rule: ScalingRule) -> Network:
    """The network at phi, the network itself at 0.

    Depth first: each stage to round-half-up of blocks x depth^phi. A stage's blocks are repeated in
    place, all of them once for each whole multiple, then those with the most parameters (of equal ones
    the later). A copy has stride 1 and is as wide at its input as at its output; so counts a stage's
    first block. Then widths of stem, blocks and head, and the input's sides.

    Raises:
        SpaceError: phi is below 0.
    """
    if phi < 0:
        raise SpaceError(f"phi {phi:g} is below 0: scaling only grows a network")
    if phi == 0:
        return network
    depth, width, resolution = (factor**phi for factor in (rule.depth, rule.width, rule.resolution))
    blocks = [
        replace(block, channels=round_width(block.channels, width, rule.divisor))
        for stage in network.stages
        for block in _deepened(network, stage, depth)
    ]
    batch, channels, *sides = network.input_shape
    height, wide = (_nearest_multiple(side * resolution, rule.side_multiple) for side in sides)
    hidden = network.hidden
    return replace(
        network,
        input_shape=(batch, channels, height, wide),
        stem=round_width(network.stem, width, rule.divisor),
        blocks=tuple(blocks),
        hidden=None if hidden is None else round_width(hidden, width, rule.divisor),
    )


def round_width(width: int, factor: float, divisor: int) -> int:
    """EfficientNet's round_filters: the nearest multiple of `divisor`, at least one of it, and the next
    where that would be less than 90 % of width x factor. A factor of 1 leaves the width as it is."""
    if factor == 1:
        return width
    wanted = width * factor
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < LEAST_WIDTH_SHARE * wanted else rounded


def _nearest_multiple(value: float, multiple: int) -> int:
    return max(multiple, math.floor(value / multiple + 0.5) * multiple)


def _deepened(network: Network, stage: Sequence[Block], factor: float) -> list[Block]:
    """The stage's blocks with copies behind their originals."""
    count = len(stage)
    whole, rest = divmod(math.floor(count * factor + 0.5), count)
    copies = Counter(dict.fromkeys(range(count), whole - 1))
    parameters = [_parameters(replace(block, stride=1), network.input_shape) for block in stage]
    largest_first = sorted(range(count), key=lambda n: (parameters[n], n), reverse=True)
    copies.update(largest_first[:rest])
    return [
        made
        for number, block in enumerate(stage)
        for made in (block, *[replace(block, stride=1)] * copies[number])
    ]


@cache
def _parameters(copy: Block, network_input: Shape) -> int:
    """Of a copy, whose input is as wide as its output. They do not depend on the side of the input, so
    the network's own, where every kernel fits, stands for it."""
    shape = after_conv(network_input, copy.channels, 1)
    return cost(copy.op(shape, "float32").lower()).parameters
