"""Latency tables for FBNet: rows of a text table, rows of a JSON table, and the operator-level database
that Facebook published.

    text       `ir_k3_e1 ir_k3_s2 ... skip`, then a line of microseconds for each layer: what
               `LookUpTable.write_lookup_table_to_file` of the public PyTorch code writes
    JSON       a list with a list of microseconds for each layer, null for what is not searched: what
               `fbnet/lookup_table.py` of github.com/jh88/fbnet writes
    database   github.com/facebookresearch/mobile-vision, runtime_lut: see `caffe2_lut`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing.caffe2_lut import read_caffe2_lut
from hwprof.lut.importing.entries import Entry, Part, Read, latency_ms
from hwprof.lut.importing.fbnet_layers import BLOCKS, Layer, block_op, layers_of
from hwprof.lut.importing.guarded import parse_json, plain, read_text, text_lines
from hwprof.lut.importing.request import DTYPE_DOUBT, SPREAD_DOUBT, Request

MAX_BYTES = 1 << 20
PER_MS = 1000.0
DOUBTS = (
    "the unit is not told: microseconds, as the code that writes such tables counts",
    "layers are told by position only: their shapes are those that --layers names",
    "a block that stands at several positions was timed at each: its row is the median",
    SPREAD_DOUBT,
    DTYPE_DOUBT,
)


def read_fbnet(source: Path, request: Request) -> Read:
    """A table for FBNet's blocks or operators, told apart by its first character and line.

    Raises:
        LutError: it is none of the three, or the request lacks what it does not tell.
    """
    first = next(text_lines(source), "").strip()
    if first.startswith("{"):
        return read_caffe2_lut(source, request)
    layers = layers_of(request.layers, request.batch or 1)
    text = read_text(source, MAX_BYTES)
    if first.startswith("["):
        table = [(list(BLOCKS), row) for row in _json_table(parse_json(text, str(source)), source)]
    else:
        table = _text_table(text, source)
    if len(table) != len(layers):
        raise LutError(f"{source} has {len(table)} layers; FBNet's search space has {len(layers)}")
    identity = request.identity("FBNet latency table", layers=request.layers)
    entries, refused = _entries(table, layers, request.per_ms or PER_MS)
    return Read((Part(identity, request.doubts(*DOUBTS), tuple(entries)),), tuple(refused))


def _text_table(text: str, source: Path) -> list[tuple[list[str], list[Any]]]:
    names, *lines = [line.split() for line in text.splitlines() if line.strip()] or [[]]
    if not names or len(set(names)) != len(names) or not any(name.startswith("ir_") for name in names):
        raise LutError(f"{source} does not begin with a line of block names such as ir_k3_e3")
    table: list[tuple[list[str], list[Any]]] = []
    for number, cells in enumerate(lines, start=1):
        if len(cells) != len(names):
            raise LutError(f"{source}: layer {number} has {len(cells)} numbers for {len(names)} blocks")
        table.append((names, [_number(cell) for cell in cells]))
    return table


def _json_table(table: Any, source: Path) -> list[list[Any]]:
    if not isinstance(table, list):
        raise LutError(f"{source} is no list of layers")
    rows = [row for row in table if row is not None]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or not len(BLOCKS) - 1 <= len(row) <= len(BLOCKS):
            raise LutError(
                f"{source}: layer {number} is no list of 8 or 9 numbers ({', '.join(BLOCKS)})"
            )
    return rows


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _entries(
    table: list[tuple[list[str], list[Any]]], layers: tuple[Layer, ...], per_ms: float
) -> tuple[list[Entry], list[tuple[str, str]]]:
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    for number, ((names, values), layer) in enumerate(zip(table, layers, strict=True), start=1):
        for block, value in zip(names, values, strict=False):
            name = plain(f"layer {number} ({layer.text}) {block}")
            try:
                found = latency_ms(value, per_ms)
                entries.append(
                    Entry(name, block_op(block, layer), found, f"{value!r} of {per_ms:g} a ms")
                )
            except HwprofError as error:
                refused.append((name, str(error)))
    return entries, refused
