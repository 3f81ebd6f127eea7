"""Reads a list of ops that are drawn from ranges of sizes: what a general-purpose table is built of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from random import Random
from typing import TypeVar

from hwprof import ops
from hwprof.errors import OpError
from hwprof.graph import cost
from hwprof.ops import OpSpec
from hwprof.space.choice import Choice, Position
from hwprof.space.document import Field
from hwprof.space.layers import ACTIVATION_NAMES
from hwprof.space.read_ops import MAX_OPS
from hwprof.space.space import Space

SAMPLED_FIELDS = ("name", "family", "summary", "seed", "ops")
MAX_CHANNELS = 1 << 17
MAX_SIDE = 1024
MAX_MFLOPS = 1e6
TRIES = 400
"""Draws for each op that is wanted: those that fit nothing or were drawn before are drawn anew."""

OPTIONAL = (
    "out_channels", "step", "side", "kernel", "stride", "activation", "se_ratio", "expansion", "groups",
    "group_width", "pool", "residual", "mflops",
)  # fmt: skip

Value = TypeVar("Value")


@dataclass(frozen=True)
class Group:
    """Ranges that ops of one kind are drawn from; each list's values are equally likely.

    Attributes:
        channels, out_channels: least and most, drawn evenly over their logarithm in multiples of `step`.
        group_width: channels of a group, in place of a number of groups.
        mflops: what an op has at most.
    """

    kind: str
    count: int
    channels: tuple[int, int]
    out_channels: tuple[int, int] | None
    step: int
    side: Sequence[int]
    kernel: Sequence[int]
    stride: Sequence[int]
    activation: Sequence[str]
    se_ratio: Sequence[float]
    expansion: Sequence[int]
    groups: Sequence[int]
    group_width: Sequence[int]
    pool: Sequence[str]
    residual: bool
    mflops: float


def read_sampled(name: str, summary: str, fields: dict[str, Field]) -> Space:
    """The space of a file's fields: one position with one choice per op drawn. The same file gives the
    same ops everywhere.

    Raises:
        SpaceError: names file, line and field; also where a group's ranges hold too few different ops.
    """
    seed = fields["seed"].integer(0)
    found: dict[OpSpec, None] = {}
    for number, field in enumerate(fields["ops"].items()):
        group = _group(field)
        random = Random(f"{seed}:{number}")
        wanted = len(found) + group.count
        if wanted > MAX_OPS:
            raise field.error(f"{wanted} ops in all, {MAX_OPS} is the most")
        for _ in range(TRIES * group.count):
            if len(found) == wanted:
                break
            op = _drawn(group, random)
            if op is not None:
                found[op] = None
        if len(found) < wanted:
            short = wanted - len(found)
            raise field.error(f"{short} of {group.count} ops were not found in these ranges; widen them")
    positions = [
        Position(f"op{number}", (Choice(op.label, (op,)),), "layer")
        for number, op in enumerate(found, start=1)
    ]
    return Space(name, summary, "ops", tuple(positions))


def _drawn(group: Group, random: Random) -> OpSpec | None:
    """An op, or None where what was drawn does not fit together."""

    def one_of(values: Sequence[Value]) -> Value:
        return values[int(random.random() * len(values))]

    channels = _channels(group.channels, group.step, random)
    outs = _channels(group.out_channels, group.step, random) if group.out_channels else channels
    side, kernel, stride = one_of(group.side), one_of(group.kernel), one_of(group.stride)
    activation, se_ratio = one_of(group.activation), one_of(group.se_ratio)
    expansion, groups = one_of(group.expansion), one_of(group.groups)
    if group.residual and stride == 1:
        outs = channels
    if group.group_width[0]:
        groups = channels // one_of(group.group_width)
    shape = (1, channels, side, side)
    makers: dict[str, Callable[[], OpSpec]] = {
        "conv": lambda: ops.conv(
            shape, outs, kernel, stride=stride, groups=groups, activation=activation
        ),
        "depthwise": lambda: ops.depthwise(shape, kernel, stride=stride, activation=activation),
        "mbconv": lambda: ops.mbconv(
            shape, outs, kernel, expansion, stride=stride, activation=activation, se_ratio=se_ratio
        ),
        "fused_mbconv": lambda: ops.fused_mbconv(
            shape, outs, kernel, expansion, stride=stride, activation=activation, se_ratio=se_ratio
        ),
        "mixconv": lambda: ops.mixconv(
            shape, outs, _mix(group.kernel, expansion * channels, random), stride=stride,
            activation=activation, se_ratio=se_ratio,
        ),
        "basic_block": lambda: OpSpec(
            "basic_block", shape, outs, mix=((kernel, outs),), stride=stride, activation=activation
        ),
        "se": lambda: ops.squeeze_excite(shape, se_ratio),
        "activation": lambda: ops.activation(shape, activation),
        "pool": lambda: ops.pool(shape, one_of(group.pool), kernel, stride=stride),
        "global_pool": lambda: ops.pool(shape, "global_avg"),
        "fc": lambda: ops.fc(shape[:2], outs),
    }  # fmt: skip
    try:
        op = makers[group.kind]()
        return op if cost(op.lower()).flops <= 1e6 * group.mflops else None
    except OpError:
        return None


KINDS = ("conv", "depthwise", "mbconv", "fused_mbconv", "mixconv", "basic_block", "se", "activation",
         "pool", "global_pool", "fc")  # fmt: skip


def _channels(limits: tuple[int, int], step: int, random: Random) -> int:
    low, high = (log(limit) for limit in limits)
    drawn = exp(low + (high - low) * random.random())
    return max(step, step * round(drawn / step))


def _mix(kernels: Sequence[int], hidden: int, random: Random) -> dict[int, int]:
    """The first two or more kernel sizes, with even shares of the hidden channels."""
    count = min(len(kernels), 2 + int(random.random() * (len(kernels) - 1)))
    share = hidden // count
    mix = dict.fromkeys(kernels[:count], share)
    mix[kernels[0]] += hidden - share * count
    return mix


def _group(field: Field) -> Group:
    values = field.section(("kind", "count", "channels"), OPTIONAL)

    def whole(name: str, default: int, most: int) -> list[int]:
        return [v.integer(most=most) for v in values[name].items()] if name in values else [default]

    def words(name: str, default: str, allowed: Sequence[str]) -> list[str]:
        return [v.text(allowed) for v in values[name].items()] if name in values else [default]

    ratios = [v.number(0.0, 8.0) for v in values["se_ratio"].items()] if "se_ratio" in values else [0.0]
    return Group(
        kind=values["kind"].text(KINDS),
        count=values["count"].integer(most=MAX_OPS),
        channels=_range(values["channels"]),
        out_channels=_range(values["out_channels"]) if "out_channels" in values else None,
        step=values["step"].integer(most=MAX_CHANNELS) if "step" in values else 8,
        side=whole("side", 1, MAX_SIDE),
        kernel=whole("kernel", 1, 31),
        stride=whole("stride", 1, 16),
        activation=words("activation", "none", ACTIVATION_NAMES),
        se_ratio=ratios,
        expansion=whole("expansion", 1, 64),
        groups=whole("groups", 1, MAX_CHANNELS),
        group_width=whole("group_width", 0, MAX_CHANNELS),
        pool=words("pool", "max", ("max", "avg")),
        residual=values["residual"].flag() if "residual" in values else False,
        mflops=values["mflops"].number(0.001, MAX_MFLOPS) if "mflops" in values else MAX_MFLOPS,
    )


def _range(field: Field) -> tuple[int, int]:
    limits = [item.integer(most=MAX_CHANNELS) for item in field.items()]
    if len(limits) > 2 or limits[0] > limits[-1]:
        raise field.error(f"{limits} is not [least, most], or one number")
    return limits[0], limits[-1]
