"""Finds a space by name or path and reads it."""

from __future__ import annotations

import os
from pathlib import Path

from hwprof.errors import SpaceError
from hwprof.space.document import nearest, read_document, shown
from hwprof.space.read_cell import read_cell
from hwprof.space.read_chain import read_chain
from hwprof.space.read_darts import read_darts
from hwprof.space.read_ops import OPS_FIELDS, read_ops
from hwprof.space.read_sampled import SAMPLED_FIELDS, read_sampled
from hwprof.space.space import FAMILIES, Space

CATALOG = Path(__file__).parent / "catalog"
OP_LISTS = CATALOG / "predict"
"""Lists of ops for general-purpose tables (docs/predict.md): shipped, but no search spaces."""
SPACE_FIELDS = ("name", "family", "summary", "input", "stem", "stages", "head")
FAMILY_FIELDS = {"block": ("chain",), "cell": ("cell", "darts"), "reduction": ("cell",)}


def list_spaces() -> tuple[str, ...]:
    """Names of the shipped spaces, in alphabetical order."""
    return tuple(sorted(path.stem for path in CATALOG.glob("*.yaml")))


def load_space(name_or_path: str | Path) -> Space:
    """A shipped space by name, or one of your own from a YAML file. A `Path`, text with a path
    separator or the ending .yaml or .yml, and the name of an existing file are taken as a path.

    Raises:
        SpaceError: the name is unknown, the file cannot be read, or something in it is wrong; then
            the message names file, line and field.
    """
    if isinstance(name_or_path, Path):
        return read_space(name_or_path)
    shipped = list_spaces()
    if name_or_path in shipped:
        return read_space(CATALOG / f"{name_or_path}.yaml")
    if name_or_path in (path.stem for path in OP_LISTS.glob("*.yaml")):
        return read_space(OP_LISTS / f"{name_or_path}.yaml")
    if (
        name_or_path.endswith((".yaml", ".yml"))
        or any(separator in name_or_path for separator in (os.sep, os.altsep) if separator)
        or os.path.exists(name_or_path)
    ):
        return read_space(Path(name_or_path))
    raise SpaceError(
        f"space {shown(name_or_path)} is unknown; {nearest(name_or_path, shipped)}choose of "
        f"{', '.join(shipped)}, or give the path of a YAML file"
    )


def read_space(path: Path) -> Space:
    """The space of a YAML file; `docs/spaces.md` describes the format.

    Raises:
        SpaceError: see `load_space`.
    """
    document = read_document(path)
    if any(key.text() == "family" and value.text() == "ops" for key, value in document.entries()):
        fields = document.section(OPS_FIELDS)
        name, summary = fields["name"].line_of_text(64), fields["summary"].line_of_text(400)
        return read_ops(name, summary, fields, path.parent)
    if any(key.text() == "family" and value.text() == "sampled" for key, value in document.entries()):
        fields = document.section(SAMPLED_FIELDS)
        name, summary = fields["name"].line_of_text(64), fields["summary"].line_of_text(400)
        return read_sampled(name, summary, fields)
    fields = document.section(SPACE_FIELDS, tuple(FAMILY_FIELDS))
    family = fields["family"].text(FAMILIES)
    for name, owners in FAMILY_FIELDS.items():
        if name in fields and family not in owners:
            raise fields[name].error(
                f"belongs to the family {' or '.join(owners)}, and this space is a {family}"
            )
    name = fields["name"].line_of_text(64)
    summary = fields["summary"].line_of_text(400)
    if family == "chain":
        return read_chain(name, summary, fields)
    if "cell" not in fields:
        raise document.error(f"field 'cell' is missing; the family {family} needs it")
    if family == "darts":
        return read_darts(name, summary, fields)
    return read_cell(name, summary, fields)
