"""Blocks against the ops inside them, and chains of ops against their links."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwprof.errors import OpError
from hwprof.lut.lint.pairs import INSIDE, Pairs, as_pairs
from hwprof.lut.lint.view import Indices, View
from hwprof.ops import OpSpec, conv, depthwise, fc, ops_from_json

LINKS = ("conv", "depthwise", "se", "fc")
BLOCKS = ("mbconv", "mixconv", "fused_mbconv", "basic_block", "relu_conv", "head")
PLACE = ("environment_id", "cache")
Found = tuple[int, int]
"""Row of the smaller op, row of the larger one."""


def inside(view: View) -> Iterator[Pairs]:
    """Blocks with each convolution, SE and classifier inside them, and pairs and networks with each of
    their ops, all timed alone."""
    yield as_pairs("inside it", INSIDE, _blocks(view))
    yield as_pairs("a chain with it", INSIDE, _chains(view))


def _blocks(view: View) -> list[Found]:
    links = view.priced & view.is_in("kind", LINKS)
    blocks = view.priced & view.is_in("kind", BLOCKS)
    outer, inner = _areas(view, "height", "width"), _areas(view, "out_height", "out_width")
    # Reading an op takes time, and few tables have links of the size of their blocks.
    blocks &= np.isin(outer, outer[links]) | np.isin(inner, outer[links]) | view.is_in("kind", ["head"])
    alone = {(*place, op): row for row, place, op in _ops(view, np.flatnonzero(links))}
    return [
        (alone[*place, link], row)
        for row, place, op in _ops(view, np.flatnonzero(blocks))
        for link in dict.fromkeys(_inside(op))
        if (*place, link) in alone
    ]


def _chains(view: View) -> list[Found]:
    return [(op, row) for row, ops in chains(view) for op in dict.fromkeys(ops) if op is not None]


def chains(view: View) -> list[tuple[int, list[int | None]]]:
    """The row of each usable pair and network, and those of its ops in running order; None for an op
    without a usable row."""
    rows = np.flatnonzero(view.usable & view.is_in("granularity", ["pair", "network"]))
    if not len(rows):
        return []
    ops = np.flatnonzero(view.priced)
    keys = zip(*(view.texts(name, ops) for name in (*PLACE, "op_id")), strict=True)
    alone = dict(zip(keys, ops.tolist(), strict=True))
    columns = (view.texts(name, rows) for name in (*PLACE, "op_json"))
    return [
        (row, [alone.get((environment, cache, op_id)) for op_id in _links_of(text)])
        for row, environment, cache, text in zip(rows.tolist(), *columns, strict=True)
    ]


def _areas(view: View, height: str, width: str) -> Indices:
    """A number for each height and width."""
    return view.codes(height) << 32 | view.codes(width)


def _ops(view: View, rows: Indices) -> Iterator[tuple[int, tuple[str, str], OpSpec]]:
    """Rows with where they were timed and their op; those whose op_json is no op are left out."""
    columns = (view.texts(name, rows) for name in (*PLACE, "op_json"))
    for row, environment, cache, text in zip(rows.tolist(), *columns, strict=True):
        try:
            yield row, (environment, cache), OpSpec.from_json(text)
        except OpError:
            continue


def _links_of(text: str) -> list[str]:
    """Op ids of a chain's ops; none where the text is no list of ops."""
    try:
        return [op.op_id for op in ops_from_json(text)]
    except OpError:
        return []


def _inside(op: OpSpec) -> list[OpSpec]:
    """The convolutions, SE and classifier that a block is lowered to."""
    if op.kind not in BLOCKS:
        return []
    batch, _, height, width = op.shape
    hidden, dtype, activation = op.hidden_channels or op.in_channels, op.dtype, op.activation
    kernel = op.mix[0][0] if op.mix else 1
    projected = (batch, hidden, -(-height // op.stride), -(-width // op.stride))
    wide = conv(op.shape, hidden, kernel, stride=op.stride, activation=activation, dtype=dtype)
    if op.kind == "relu_conv":
        return [wide]
    if op.kind == "basic_block":
        return [wide, conv(projected, hidden, kernel, dtype=dtype)]
    if op.kind == "head":
        classifier = fc((batch, hidden), op.out_channels, dtype=dtype)
        return [wide, classifier] if op.mix else [classifier]
    links = [conv(projected, op.out_channels, dtype=dtype)]
    if op.se_channels:
        links.append(OpSpec("se", projected, hidden, se_channels=op.se_channels, dtype=dtype))
    if op.kind == "fused_mbconv":
        return [wide, *links]
    if hidden != op.in_channels:
        links.append(conv(op.shape, hidden, activation=activation, dtype=dtype))
    for side, channels in op.mix:
        part = (batch, channels, height, width)
        links.append(depthwise(part, side, stride=op.stride, activation=activation, dtype=dtype))
    return links
