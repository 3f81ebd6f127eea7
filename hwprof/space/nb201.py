"""NAS-Bench-201 architecture strings (Dong and Yang 2020), e.g.
`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|`: for each node its incoming
edges as `op~source`. They work for every space of the family `cell`, whatever its number of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.errors import SpaceError
from hwprof.space.cell import CellLayout
from hwprof.space.document import nearest
from hwprof.space.space import Space


def point_from_string(space: Space, text: str) -> tuple[int, ...]:
    """The point of an architecture string; positions that are no edge take their first choice.

    Raises:
        SpaceError: the space is no cell space, the string has another form, or an op is unknown.
    """
    layout = _layout(space)
    parts = [edge for node in text.strip().split("+") for edge in node.strip("|").split("|")]
    form = _join(layout, ["OP"] * len(layout.edges))
    if len(parts) != len(layout.edges):
        raise SpaceError(f"architecture {text[:120]!r} is not of the form {form}")
    point = []
    edges = iter(zip(parts, layout.edges, strict=True))
    for position in space.positions:
        if position.kind != "edge":
            point.append(0)
            continue
        part, (source, _) = next(edges)
        label, _, tail = part.partition("~")
        if tail != str(source):
            raise SpaceError(
                f"architecture {text[:120]!r}: {part!r} stands where {position.name} is wanted; "
                f"the form is {form}"
            )
        labels = [choice.label for choice in position.choices]
        if label not in labels:
            raise SpaceError(
                f"architecture {text[:120]!r}: op {label!r} of {position.name} is unknown; "
                f"{nearest(label, labels)}choose of {', '.join(labels)}"
            )
        point.append(labels.index(label))
    if text.strip() != string_from_point(space, point):
        raise SpaceError(f"architecture {text[:120]!r} is not of the form {form}")
    return tuple(point)


def string_from_point(space: Space, point: Sequence[int]) -> str:
    """The architecture string of a point.

    Raises:
        SpaceError: the space is no cell space, or the point does not fit it.
    """
    layout = _layout(space)
    chosen = zip(space.positions, space.choices_of(point), strict=True)
    return _join(layout, [choice.label for position, choice in chosen if position.kind == "edge"])


def _join(layout: CellLayout, labels: Sequence[str]) -> str:
    nodes: dict[int, str] = {}
    for (source, target), label in zip(layout.edges, labels, strict=True):
        nodes[target] = nodes.get(target, "|") + f"{label}~{source}|"
    return "+".join(nodes.values())


def _layout(space: Space) -> CellLayout:
    if not isinstance(space.cell, CellLayout):
        raise SpaceError(
            f"{space.name} is a {space.family} space; architecture strings are for the family cell"
        )
    return space.cell
