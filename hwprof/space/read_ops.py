"""Reads a plain list of ops: any op by its canonical JSON, and a user's own blocks as ONNX files."""

from __future__ import annotations

from pathlib import Path

from hwprof.errors import OpError
from hwprof.ops import OpSpec, from_onnx
from hwprof.space.choice import Choice, Position
from hwprof.space.document import Field
from hwprof.space.space import Space

OPS_FIELDS = ("name", "family", "summary", "ops")
MAX_OPS = 4096


def read_ops(name: str, summary: str, fields: dict[str, Field], folder: Path) -> Space:
    """The space of a file's fields: one position with one choice per op. Paths of ONNX files are
    relative to `folder`.

    Raises:
        SpaceError: names file, line and field.
    """
    positions = []
    for number, field in enumerate(fields["ops"].items(MAX_OPS), start=1):
        op = _op(field, folder)
        positions.append(Position(f"op{number}", (Choice(op.label, (op,)),), "layer"))
    return Space(name, summary, "ops", tuple(positions))


def _op(field: Field, folder: Path) -> OpSpec:
    values = field.section((), ("op", "onnx"))
    if len(values) != 1:
        raise field.error("give either op: (canonical JSON) or onnx: (a file)")
    try:
        if "op" in values:
            return OpSpec.from_json(values["op"].text())
        return from_onnx(folder / values["onnx"].text())
    except OpError as error:
        raise field.error(str(error)) from None
