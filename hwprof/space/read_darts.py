"""Reads a DARTS space: stem, stages of normal cells of which all but the first begin with a reduction
cell, head."""

from __future__ import annotations

from functools import partial

from hwprof import ops
from hwprof.graph import Shape
from hwprof.ops import OpSpec, output_shape
from hwprof.space.choice import Choice, Position
from hwprof.space.darts import CELL_TYPES, INPUTS, DartsLayout
from hwprof.space.document import Field, distinct
from hwprof.space.layers import checked, read_head, read_input, read_kernel, read_stem
from hwprof.space.read_cell import (
    CELL_FIELDS,
    EDGE_FIELDS,
    EDGE_OPTIONAL,
    MAX_CELLS,
    MAX_CHOICES,
    MAX_NODES,
    MAX_STAGES,
    STAGE_FIELDS,
    read_edge_name,
)
from hwprof.space.space import Space

EDGE_KINDS = ("none", "skip", "pool", "relu_conv", "sep_conv", "dil_conv")
STRIDES = (1, 2)


def read_darts(name: str, summary: str, fields: dict[str, Field]) -> Space:
    """The space of a file's fields.

    Raises:
        SpaceError: names file, line and field.
    """
    shape = read_input(fields["input"])
    stem = read_stem(fields["stem"], shape)
    if len(stem.choices) != 1:
        raise fields["stem"].error("a DARTS space has one stem; list one activation")
    values = fields["cell"].section(CELL_FIELDS)
    nodes = values["nodes"].integer(1, MAX_NODES)
    reduced, widths = _read_stages(fields["stages"])
    layout = DartsLayout(nodes, reduced)
    before = last = output_shape(stem.choices[0].ops[0])
    inputs, shapes = [], []
    for number, (is_reduced, width) in enumerate(zip(reduced, widths, strict=True)):
        make = partial(_inputs, before, last, width)
        pair = checked(fields["stages"], f"cell{number}", make)
        inputs.append(Position(f"cell{number}.inputs", (Choice("relu_conv_1x1", pair),), "layer"))
        inside = output_shape(pair[1])
        shapes.append(inside)
        batch, _, height, width_px = inside
        if is_reduced:
            if height % 2 or width_px % 2:
                raise fields["stages"].error(
                    f"cell{number} reduces an image of {height}x{width_px}; its sides must be even"
                )
            height, width_px = height // 2, width_px // 2
        before, last = last, (batch, width * nodes, height, width_px)
    items = values["choices"].items(MAX_CHOICES)
    edges = _read_edges(items, layout, shapes)
    head = read_head(fields["head"], last)
    if len(head.choices) != 1:
        raise fields["head"].error("a DARTS space has one head; list one activation")
    return Space(name, summary, "darts", (stem, *edges, *inputs, head), layout)


def _read_stages(field: Field) -> tuple[tuple[bool, ...], tuple[int, ...]]:
    """Of each cell, whether it is a reduction and its width."""
    reduced: list[bool] = []
    widths: list[int] = []
    for stage in field.items(MAX_STAGES):
        values = stage.section(STAGE_FIELDS)
        stride = values["stride"].integer(most=max(STRIDES))
        cells = values["cells"].integer(most=MAX_CELLS)
        reduced += [stride == max(STRIDES), *[False] * (cells - 1)]
        widths += [values["channels"].integer()] * cells
    if len(reduced) > MAX_CELLS or all(reduced) or not any(reduced):
        raise field.error(
            f"{len(reduced)} cells, {sum(reduced)} of them reductions; give at most {MAX_CELLS}, with "
            "a normal cell and a stage of stride 2 among them"
        )
    return tuple(reduced), tuple(widths)


def _inputs(before: Shape, last: Shape, width: int) -> tuple[OpSpec, OpSpec]:
    """What brings the outputs of the two cells before to this cell's width and side."""
    if before[2:] == last[2:]:
        first = OpSpec("relu_conv", before, width, mix=((1, width),))
    else:
        first = OpSpec("factorized_reduce", before, width, stride=2)
    return first, OpSpec("relu_conv", last, width, mix=((1, width),))


def _read_edges(items: list[Field], layout: DartsLayout, shapes: list[Shape]) -> list[Position]:
    choices = [_edge(item) for item in items]
    distinct((item, name) for item, (name, *_) in zip(items, choices, strict=True))
    kinds = [kind for _, kind, *_ in choices]
    if kinds.count("none") != 1 or len(kinds) < INPUTS:
        raise items[0].error("a DARTS cell has one choice of kind none and one or more of other kinds")
    positions = []
    for number, cell_type in enumerate(CELL_TYPES):
        inside = [
            s for s, is_reduced in zip(shapes, layout.reduced, strict=True) if is_reduced == number
        ]
        for source, target in layout.edges:
            place = f"{cell_type}{source}-{target}"
            offered = []
            for item, (name, kind, kernel, mode) in zip(items, choices, strict=True):
                stride = 2 if number and source < INPUTS else 1
                at = [_halved(s) if number and source >= INPUTS else s for s in inside]
                make = partial(_edge_ops, kind, kernel, mode, at, stride)
                offered.append(Choice(name, checked(item, place, make), cut=kind == "none"))
            positions.append(Position(place, tuple(offered), "edge"))
    return positions


def _halved(shape: Shape) -> Shape:
    return (*shape[:2], shape[2] // 2, shape[3] // 2)


def _edge(field: Field) -> tuple[str, str, int, str]:
    """Name, kind, kernel (0: none) and mode of a pool of an edge choice."""
    values = field.section(EDGE_FIELDS, EDGE_OPTIONAL)
    name = read_edge_name(values["name"])
    kind = values["kind"].text(EDGE_KINDS)
    needed = () if kind in ("none", "skip") else ("kernel", "pool") if kind == "pool" else ("kernel",)
    for option in EDGE_OPTIONAL:
        if option in values and option not in needed:
            raise values[option].error(f"kind {kind} has no {option!r}; leave it out")
        if option in needed and option not in values:
            raise field.error(f"kind {kind} needs the field {option!r}")
    kernel = read_kernel(values["kernel"]) if needed else 0
    return name, kind, kernel, values["pool"].text(("avg", "max")) if kind == "pool" else ""


def _edge_ops(kind: str, kernel: int, mode: str, shapes: list[Shape], stride: int) -> tuple[OpSpec, ...]:
    """The op of each cell; none for `none`, and for a skip that changes no side."""
    if kind == "none" or (kind == "skip" and stride == 1):
        return ()
    if kind == "skip":
        return tuple(OpSpec("factorized_reduce", s, s[1], stride=stride) for s in shapes)
    if kind == "pool":
        return tuple(ops.pool(s, mode, kernel, stride=stride) for s in shapes)
    return tuple(OpSpec(kind, s, s[1], mix=((kernel, s[1]),), stride=stride) for s in shapes)
