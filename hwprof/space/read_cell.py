"""Reads a cell space: stem, stages of equal cells with reductions between them, head."""

from __future__ import annotations

from hwprof import ops
from hwprof.graph import Shape
from hwprof.ops import OpSpec, output_shape
from hwprof.space.cell import CellLayout
from hwprof.space.choice import Choice, Position
from hwprof.space.document import Field, distinct
from hwprof.space.layers import (
    ACTIVATION_NAMES,
    MAX_STRIDE,
    checked,
    read_head,
    read_input,
    read_kernel,
    read_stem,
)
from hwprof.space.space import Space

STAGE_FIELDS = ("cells", "channels", "stride")
CELL_FIELDS = ("nodes", "choices")
EDGE_FIELDS = ("name", "kind")
EDGE_OPTIONAL = ("kernel", "pool")
EDGE_KINDS = ("none", "skip", "relu_conv", "pool")
REDUCTION_FIELDS = ("kernel", "activation")
MAX_NODES = 16
MAX_STAGES = 64
MAX_CELLS = 256
MAX_CHOICES = 64


def read_cell(name: str, summary: str, fields: dict[str, Field]) -> Space:
    """The space of a file's fields.

    Raises:
        SpaceError: names file, line and field.
    """
    shape = read_input(fields["input"])
    stem = read_stem(fields["stem"], shape)
    shape = output_shape(stem.choices[0].ops[0])
    cells: list[int] = []
    shapes: list[Shape] = []
    reductions: list[Position | None] = []
    for number, field in enumerate(fields["stages"].items(MAX_STAGES), start=1):
        values = field.section(STAGE_FIELDS)
        channels = values["channels"].integer()
        stride = values["stride"].integer(most=MAX_STRIDE)
        cells.append(values["cells"].integer(most=MAX_CELLS))
        reduction = None
        if stride != 1 or channels != shape[1]:
            if "reduction" not in fields:
                raise field.error("the stage changes the shape, so the space needs a 'reduction'")
            place = f"stage{number}.reduction"
            op = _reduction(fields["reduction"], shape, channels, stride, place)
            reduction = Position(place, (Choice("basic_block", (op,)),), "layer")
            shape = output_shape(op)
        reductions.append(reduction)
        shapes.append(shape)
    layout, edges = _read_edges(fields["cell"], cells, shapes, reductions)
    between = [reduction for reduction in reductions if reduction is not None]
    positions = (stem, *edges, *between, read_head(fields["head"], shape))
    return Space(name, summary, "cell", positions, layout)


def _reduction(field: Field, shape: Shape, channels: int, stride: int, place: str) -> OpSpec:
    values = field.section(REDUCTION_FIELDS)
    kernel = read_kernel(values["kernel"])
    activation = values["activation"].text(ACTIVATION_NAMES)

    def make() -> OpSpec:
        op = OpSpec(
            "basic_block", shape, channels, mix=((kernel, channels),), stride=stride,
            activation=activation,
        )  # fmt: skip
        op.lower()  # a side that the stride does not divide shows only here
        return op

    return checked(field, place, make)


def _read_edges(
    field: Field, cells: list[int], shapes: list[Shape], reductions: list[Position | None]
) -> tuple[CellLayout, list[Position]]:
    values = field.section(CELL_FIELDS)
    nodes = values["nodes"].integer(2, MAX_NODES)
    items = values["choices"].items(MAX_CHOICES)
    choices = tuple(_edge_choice(item, cells, shapes) for item in items)
    distinct((item, choice.label) for item, choice in zip(items, choices, strict=True))
    if all(choice.cut for choice in choices):
        raise values["choices"].error("every choice is of kind none; add one that carries something")
    layout = CellLayout(nodes, tuple(cells), tuple(r is not None for r in reductions))
    return layout, [Position(f"edge{i}-{j}", choices, "edge") for i, j in layout.edges]


def read_edge_name(field: Field) -> str:
    """Raises SpaceError where an architecture string could not hold it."""
    name = field.line_of_text(64)
    if set(name) & set("|~+ "):
        raise field.error(f"{name!r} holds one of | ~ + or a space, which architecture strings use")
    return name


def _edge_choice(field: Field, cells: list[int], shapes: list[Shape]) -> Choice:
    values = field.section(EDGE_FIELDS, EDGE_OPTIONAL)
    name = read_edge_name(values["name"])
    kind = values["kind"].text(EDGE_KINDS)
    needed = {"relu_conv": ("kernel",), "pool": ("kernel", "pool")}.get(kind, ())
    for option in EDGE_OPTIONAL:
        if option in values and option not in needed:
            raise values[option].error(f"kind {kind} has no {option!r}; leave it out")
        if option in needed and option not in values:
            raise field.error(f"kind {kind} needs the field {option!r}")
    if not needed:
        return Choice(name, (), cut=kind == "none")
    kernel = read_kernel(values["kernel"])
    mode = values["pool"].text(("avg", "max")) if "pool" in values else ""
    edge_ops: list[OpSpec] = []
    for number, (count, shape) in enumerate(zip(cells, shapes, strict=True), start=1):

        def make(shape: Shape = shape) -> OpSpec:
            if mode:
                return ops.pool(shape, mode, kernel)
            return OpSpec("relu_conv", shape, shape[1], mix=((kernel, shape[1]),))

        edge_ops += [checked(field, f"stage{number}", make)] * count
    return Choice(name, tuple(edge_ops))
