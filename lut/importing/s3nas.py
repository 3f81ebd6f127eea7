"""S3NAS's latency folder: one small JSON file per op, `CLASS/DESCRIPTOR_imgsizeSIDE`, holding
`{"latency": number}` (Lee et al. 2020, arXiv 2009.02009; github.com/cap-lab/S3NAS_latency)."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprof import __version__, ops
from hwprof.environment import Environment
from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing.descriptors import NETWORK_ACTIVATION, op_of
from hwprof.lut.importing.guarded import shown
from hwprof.lut.importing.writing import check_new
from hwprof.lut.rows import null_row, op_columns
from hwprof.lut.schema import SCHEMA_VERSION
from hwprof.lut.write import write_lut
from hwprof.ops import OpSpec, output_shape
from hwprof.space import load_space

SPACE = "s3nas"
MAX_FILES = 100_000
MAX_BYTES = 4096
DOUBTS = (
    "how often and how precisely the numbers were taken is not told: no interval",
    "the element type is not told: filed under float32, bytes_moved is null",
    "activations that a name does not tell are taken as relu",
    "BatchNorm and activations are counted in their convolution, as S3NAS's own estimator does",
)


@dataclass(frozen=True)
class Origin:
    """Where a folder's numbers come from: the files do not say.

    Attributes:
        per_ms: what the files count, per millisecond; S3NAS's own flag `constraint_div_unit`.
        doubts: what is not known about the numbers, besides `DOUBTS`.
    """

    device: str = "MIDAP"
    runtime: str = "MidapSim"
    per_ms: float = 1e6
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.per_ms) and self.per_ms > 0):
            raise LutError(f"{self.per_ms} per ms is no unit; give a number above 0, such as 1000000")
        for name in ("device", "runtime"):
            text = getattr(self, name)
            if not (text.strip() and text.isprintable()):
                raise LutError(f"{name} {text!r} is no name; give one line of text")


PUBLISHED = Origin(
    doubts=(
        "the unit is not told: as cycles at 1 GHz the sums match the published milliseconds",
        "a cycle-level simulator made the numbers; its own computing is on 8 bit",
    )
)
"""The 742 files that S3NAS published."""


Priced = tuple[float, str, str]
"""What an op's row gets: a number in the files' unit, `reason` and `source`."""


@dataclass(frozen=True)
class Entry:
    """A file that holds a number of an op."""

    place: str
    value: float


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        entries: files that hold a number of an op.
        same: of those, how many name an op that another one names, with the same number.
        heads: rows that are sums of entries (1x1 convolution, pool, classifier).
        zeros: entries of 0, counted in a head: 0 is no latency and makes no row of its own.
        refused: files that are in no row, each with the reason.
    """

    out: Path
    environment_id: str
    rows: int
    entries: int
    same: int
    heads: int
    zeros: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]

    def summary(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "environment_id": self.environment_id,
            "rows": self.rows,
            "entries": self.entries,
            "same": self.same,
            "heads": self.heads,
            "zeros": list(self.zeros),
            "refused": [{"file": place, "reason": reason} for place, reason in self.refused],
        }


def import_s3nas(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], origin: Origin = PUBLISHED
) -> Imported:
    """Read a folder of S3NAS latencies into a new table. Its rows are in state `imported`, without
    interval and percentiles; `reason` names the files that a row was made from.

    Raises:
        LutError: no folder, no entry in it, more than 100,000 files, two files with different numbers
            of one op, or `out` exists or cannot be written.
    """
    target = check_new(out)
    read = _read(Path(folder))
    heads, zeros = _heads(read.found)
    used = {op: entries for op, entries in read.found.items() if entries[0].value > 0}
    counted = [entry.place for op in zeros for entry in read.found[op]]
    refused = list(read.refused)
    for op in read.found.keys() - used.keys() - zeros:
        refused += [(entry.place, "0 is no latency") for entry in read.found[op]]
    if not used:
        why = f", first {refused[0][0]}: {refused[0][1]}" if refused else ""
        raise LutError(
            f"{folder} holds no S3NAS latency (CLASS/DESCRIPTOR_imgsizeSIDE){why}; give the folder that "
            "holds Conv2D, MBConvBlock, ..."
        )
    environment = _environment(origin, read.content)
    space_ops = set(load_space(SPACE).ops())
    rows = []
    for op, (value, reason, source) in {**_priced(used), **heads}.items():
        row = {**null_row(), **op_columns(op), **_shared(origin, environment)}
        row |= {"latency_ms": value / origin.per_ms, "reason": reason, "source": source}
        row |= {"bytes_moved": None, "space": SPACE if op in space_ops else None}
        rows.append(row)
    metadata = {
        "spaces": [SPACE] if any(row["space"] for row in rows) else [],
        "environments": {environment.environment_id: environment.to_dict()},
    }
    write_lut(target, rows, metadata=metadata, expected=None)
    return Imported(
        out=Path(out),
        environment_id=environment.environment_id,
        rows=len(rows),
        entries=sum(len(entries) for entries in used.values()) + len(counted),
        same=sum(len(entries) - 1 for entries in used.values()),
        heads=len(heads),
        zeros=tuple(counted),
        refused=tuple(sorted(refused)),
    )


@dataclass(frozen=True)
class _Read:
    """Entries of each op, files that hold none, and a hash over the entries."""

    found: Mapping[OpSpec, list[Entry]]
    refused: list[tuple[str, str]]
    content: str


def _read(folder: Path) -> _Read:
    found: dict[OpSpec, list[Entry]] = {}
    refused: list[tuple[str, str]] = []
    digest = hashlib.sha256()
    for layer, path in _files(folder):
        place = f"{layer}/{path.name}" if layer else path.name
        try:
            if not layer:
                raise LutError("it lies in no folder of a class of layers")
            op, value = op_of(layer, path.name), _value(path)
        except HwprofError as error:
            refused.append((shown(place), str(error)))
            continue
        digest.update(f"{place}:{value!r}\n".encode())
        found.setdefault(op, []).append(Entry(place, value))
    for entries in found.values():
        _check_equal(entries)
    return _Read(found, refused, digest.hexdigest())


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(class, file) of each file, in order; what is not in a folder of a class has no class."""
    if not folder.is_dir():
        raise LutError(f"{folder} is no folder; give the one that holds Conv2D, MBConvBlock, ...")
    count = 0
    try:
        for outer in sorted(folder.iterdir()):
            for path in sorted(outer.iterdir()) if outer.is_dir() else [outer]:
                count += 1
                if count > MAX_FILES:
                    raise LutError(f"{folder} holds more than {MAX_FILES} files; is it the right one?")
                yield (outer.name if outer.is_dir() else "", path)
    except OSError as error:
        raise LutError(f"{folder} cannot be read: {error.strerror or error}") from None


def _value(path: Path) -> float:
    """The number in a file, 0 or more."""
    if not path.is_file():
        raise LutError("not a regular file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LutError(f"cannot be read: {error.strerror or error}") from None
    try:
        content = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        content = None
    value = content.get("latency") if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = data.decode(errors="replace")
        raise LutError(f'holds no {{"latency": number}} but {shown(text)}')
    if not 0 <= value < 1e18:
        raise LutError(f"latency {shown(str(value))} is no number of 0 to 1e18")
    return value


def _check_equal(entries: list[Entry]) -> None:
    """Raises LutError where files of one op hold different numbers."""
    first = entries[0]
    if other := next((entry for entry in entries if entry.value != first.value), None):
        raise LutError(
            f"{first.place} ({first.value}) and {other.place} ({other.value}) are the same op with "
            "different numbers; keep one of them"
        )


def _priced(used: Mapping[OpSpec, list[Entry]]) -> dict[OpSpec, Priced]:
    """Each op by its own entries."""
    return {
        op: (
            entries[0].value,
            f"{' = '.join(entry.place for entry in entries)} ({entries[0].value})",
            "imported",
        )
        for op, entries in used.items()
    }


def _heads(found: Mapping[OpSpec, list[Entry]]) -> tuple[dict[OpSpec, Priced], set[OpSpec]]:
    """Our heads, each by the sum of its parts, and the pools of 0 that are counted in one. A 1x1
    convolution, the pool of its output and each classifier of its width make a head: one op here."""
    heads: dict[OpSpec, Priced] = {}
    zeros = set()
    classifiers = [op for op in found if op.kind == "fc"]
    for first in found:
        if first.kind != "conv" or first.mix[0][0] != 1 or first.stride != 1:
            continue
        pool = ops.pool(output_shape(first), "global_avg")
        for last in classifiers:
            if pool not in found or last.in_channels != first.out_channels:
                continue
            parts = [found[part][0] for part in (first, pool, last)]
            value = sum(part.value for part in parts)
            if value == 0:
                continue
            head = ops.head(
                first.shape, last.out_channels, first.out_channels, activation=NETWORK_ACTIVATION
            )
            words = " + ".join(f"{part.place} ({part.value})" for part in parts)
            heads[head] = (value, f"sum of {words}", "derived")
            if found[pool][0].value == 0:
                zeros.add(pool)
    return heads, zeros


def _environment(origin: Origin, content: str) -> Environment:
    identity = {
        "device": origin.device,
        "runtime": origin.runtime,
        "imported_from": "S3NAS latency folder",
        "counts_per_ms": origin.per_ms,
    }
    return Environment(identity, {"doubts": [*origin.doubts, *DOUBTS], "entries_sha256": content})


def _shared(origin: Origin, environment: Environment) -> dict[str, Any]:
    """The columns that are alike in all rows. The files tell no threads: one inference at a time."""
    return {
        "environment_id": environment.environment_id,
        "granularity": "op",
        "cache": "warm",
        "backend": origin.runtime,
        "target": origin.device,
        "threads": 1,
        "regime": "burst",
        "state": "imported",
        "energy_reason": "not told by what was imported",
        "peak_memory_source": "not told by what was imported",
        "hwprof_version": __version__,
        "schema_version": SCHEMA_VERSION,
    }
