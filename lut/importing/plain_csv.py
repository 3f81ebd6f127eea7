"""A CSV file with a line per op: any column names, mapped to the fields of an op and its latency."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing.entries import Entry, Part, Read, latency_ms
from hwprof.lut.importing.guarded import csv_rows, parse_json, plain, shown
from hwprof.lut.importing.request import DTYPE_DOUBT, SPREAD_DOUBT, Request
from hwprof.lut.schema import CACHES, STATES, USABLE_STATES
from hwprof.ops import KINDS, OpSpec
from hwprof.ops.construct import se_width
from hwprof.text import listed

MAX_ROWS = 200_000
NAMED = 4
LATENCIES = {"latency_s": 1e-3, "latency_ms": 1.0, "latency_us": 1e3, "latency_ns": 1e6}
"""Field -> its counts in a millisecond."""

NUMBERS = (
    "batch", "in_channels", "height", "width", "side", "out_channels", "kernel", "hidden_channels",
    "stride", "groups", "se_channels",
)  # fmt: skip
RATIOS = ("expansion", "se_ratio")
WORDS = ("kind", "kernel_mix", "activation", "pool", "residual", "dtype", "op_json", "name")
APART = ("environment_id", "cache")
"""Rows that differ in one of these are of different numbers, whose median is none."""
FIELDS = (*LATENCIES, *NUMBERS, *RATIOS, *WORDS, *APART, "state")
RESIDUAL_DOUBT = (
    "whether a block adds its input is not told: it does where stride 1 and equal widths allow it"
)
BLOCKS = ("mbconv", "mixconv", "fused_mbconv")
_WHOLE = re.compile(r"([0-9]{1,9})(?:\.0{0,9})?")
_RATIO = re.compile(r"[0-9]{1,6}(?:\.[0-9]{0,9})?")
_PAIR = re.compile(r"([0-9]{1,4}):([0-9]{1,7})")
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_csv(source: Path, request: Request) -> Read:
    """The file's rows. Columns that have a field's name need no mapping.

    Raises:
        LutError: no such file, a mapping to an unknown field or column, not exactly one latency, no
            `kind` and no `op_json`, rows of several environments or cache states, or the request lacks
            device or runtime.
    """
    rows = csv_rows(source)
    _, header = next(rows, (0, []))
    places = _places([name.strip() for name in header], request.columns, source)
    unit = next(name for name in LATENCIES if name in places)
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    values: dict[str, set[str]] = {name: set() for name in APART}
    for count, (number, row) in enumerate(rows, start=1):
        if count > MAX_ROWS:
            raise LutError(f"{source} has more than {MAX_ROWS} rows; give a part of it")
        cells = {name: row[place].strip() for name, place in places.items() if place < len(row)}
        name = plain(f"line {number} {cells.get('name') or cells.get('kind', '')}".strip())
        try:
            if len(row) != len(header):
                raise LutError(f"it has {len(row)} cells, the first line {len(header)}")
            entries.append(_entry(name, cells, unit))
            for column, seen in values.items():
                seen.add(cells.get(column, ""))
        except HwprofError as error:
            refused.append((name, str(error)))
    for column, seen in values.items():
        _check_one(column, seen, source)
    cache, doubts = _cache(next(iter(values["cache"]), ""))
    doubts += [SPREAD_DOUBT]
    typed = "dtype" in places or "op_json" in places
    doubts += [] if typed else [DTYPE_DOUBT]
    doubts += [] if "residual" in places or "op_json" in places else [RESIDUAL_DOUBT]
    identity = request.identity("CSV table")
    part = Part(identity, request.doubts(*doubts), tuple(entries), dtype_told=typed, cache=cache)
    return Read((part,), tuple(refused))


def _places(header: list[str], columns: Mapping[str, str], source: Path) -> dict[str, int]:
    """Column number of each field that is told."""
    if len(set(header)) != len(header):
        raise LutError(f"{source} has a column twice")
    if unknown := [name for name in columns if name not in FIELDS]:
        raise LutError(f"--map {unknown[0][:60]!r} is no field; fields are {', '.join(FIELDS)}")
    if missing := [column for column in columns.values() if column not in header]:
        known = ", ".join(plain(name) for name in header[:30])
        raise LutError(f"{source} has no column {missing[0][:60]!r}; it has {known}")
    places = {name: header.index(name) for name in FIELDS if name in header and name not in columns}
    places |= {name: header.index(column) for name, column in columns.items()}
    # A column that is mapped to one field is not another one's as well.
    mapped = set(columns.values())
    places = {name: place for name, place in places.items() if name in columns or name not in mapped}
    latencies = [name for name in LATENCIES if name in places]
    if len(latencies) != 1:
        got = " and ".join(latencies) or "none"
        raise LutError(
            f"{source} needs one column of latencies, got {got}; say which with --map latency_ms=COLUMN "
            "(or latency_us, latency_ns, latency_s)"
        )
    if "kind" not in places and "op_json" not in places:
        raise LutError(f"{source} has no column for the kind of op; say which with --map kind=COLUMN")
    return places


def _entry(name: str, cells: Mapping[str, str], unit: str) -> Entry:
    _check_state(cells.get("state"))
    found = latency_ms(_decimal(cells[unit]), LATENCIES[unit])
    return Entry(name, _op_of(cells), found, f"{plain(cells[unit])} {unit.removeprefix('latency_')}")


def _check_state(state: str | None) -> None:
    """Raises LutError for a state of ours that look-ups do not use: an imported row would be used."""
    if state in STATES and state not in USABLE_STATES:
        raise LutError(f"its state is {state}; look-ups use {', '.join(USABLE_STATES)}")


def _check_one(column: str, values: set[str], source: Path) -> None:
    """Raises LutError for values of several environments or cache states."""
    if len(values) > 1:
        named = listed([plain(value) for value in sorted(values)[:NAMED]], NAMED, len(values))
        raise LutError(
            f"{source} has rows of {len(values)} values of {column} ({named}), whose numbers are "
            "not of one kind; keep the lines of one, or put hwprof's own tables together as Parquet "
            "files with `hwprof lut merge`"
        )


def _cache(told: str) -> tuple[str, list[str]]:
    """The cache state of the rows, and a doubt where the file tells one that is none of ours."""
    if told in CACHES:
        return told, []
    return "warm", [f"cache state {plain(told)} is none of ours: filed under warm"] if told else []


def _op_of(cells: Mapping[str, str]) -> OpSpec:
    if text := cells.get("op_json"):
        fields = parse_json(text, "op_json")
        if not isinstance(fields, dict):
            raise LutError(f"op_json {shown(text)} is no JSON object")
        return OpSpec.from_dict(fields)
    kind = cells.get("kind", "")
    if kind not in KINDS:
        raise LutError(f"kind {shown(kind)} is none of {', '.join(KINDS)}")
    numbers = {name: _whole(name, cells[name]) for name in NUMBERS if cells.get(name)}
    channels = _needed(numbers, "in_channels")
    batch = numbers.get("batch", 1)
    if kind == "fc":
        shape: tuple[int, ...] = (batch, channels)
    else:
        side = numbers.get("side")
        high = numbers.get("height", side)
        wide = numbers.get("width", high)
        if high is None or wide is None:
            raise LutError("neither side nor height is told")
        shape = (batch, channels, high, wide)
    keeps = kind in ("depthwise", "se", "activation", "skip", "pool")
    out = numbers.get("out_channels") or (channels if keeps else _needed(numbers, "out_channels"))
    stride = numbers.get("stride", 1)
    return OpSpec(
        kind,
        shape,
        out,
        mix=_mix(kind, cells, numbers, channels, out),
        stride=stride,
        groups=numbers.get("groups", 1),
        activation=cells.get("activation") or "none",
        pool=cells.get("pool") or "",
        se_channels=_se_channels(cells, numbers, channels),
        residual=_residual(cells, kind, stride == 1 and channels == out),
        dtype=cells.get("dtype") or "float32",
    )


def _mix(
    kind: str, cells: Mapping[str, str], numbers: Mapping[str, int], channels: int, out: int
) -> tuple[tuple[int, int], ...]:
    """(kernel, channels) pairs: `kernel_mix` as our own table has it, or `kernel` with the channels that
    the kind means by it."""
    if text := cells.get("kernel_mix"):
        pairs = [_PAIR.fullmatch(part) for part in text.split(",")]
        if not all(pairs):
            raise LutError(f"kernel_mix {shown(text)} is not KERNEL:CHANNELS,...")
        return tuple((int(pair[1]), int(pair[2])) for pair in pairs if pair)
    if kind == "head":
        return ((1, numbers["hidden_channels"]),) if "hidden_channels" in numbers else ()
    if "kernel" not in numbers:
        return ()
    if kind in BLOCKS:
        hidden = numbers.get("hidden_channels") or round(_ratio(cells, "expansion") * channels)
        if not hidden:
            raise LutError("neither hidden_channels nor expansion is told")
        return ((numbers["kernel"], hidden),)
    return ((numbers["kernel"], out),)


def _se_channels(cells: Mapping[str, str], numbers: Mapping[str, int], channels: int) -> int:
    return numbers.get("se_channels", se_width(channels, _ratio(cells, "se_ratio")))


def _residual(cells: Mapping[str, str], kind: str, allowed: bool) -> bool:
    text = cells.get("residual", "").lower()
    if not text:
        return allowed and kind in BLOCKS
    if text not in _FLAGS:
        raise LutError(f"residual {shown(text)} is none of {', '.join(_FLAGS)}")
    return _FLAGS[text]


def _ratio(cells: Mapping[str, str], name: str) -> float:
    """0 where it is not told."""
    text = cells.get(name) or "0"
    if not _RATIO.fullmatch(text):
        raise LutError(f"{name} {shown(text)} is no ratio")
    return float(text)


def _whole(name: str, text: str) -> int:
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise LutError(f"{name} {shown(text)} is no whole number")
    return int(found[1])


def _needed(numbers: Mapping[str, int], name: str) -> int:
    if name not in numbers:
        raise LutError(f"{name} is not told")
    return numbers[name]


def _decimal(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
