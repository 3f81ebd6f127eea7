"""From what an importer read to a new table of rows in state `imported`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hwprof import __version__
from hwprof.environment import Environment
from hwprof.errors import HwprofError, LutError
from hwprof.lut.guard.metadata import parse
from hwprof.lut.importing.entries import Entry, Network, Part, Read
from hwprof.lut.importing.request import DEFAULT_THREADS
from hwprof.lut.rows import null_row, op_columns
from hwprof.lut.schema import COLUMNS, INT, LONG, SCHEMA_VERSION
from hwprof.lut.write import check_destination, write_lut
from hwprof.ops import OpSpec
from hwprof.text import listed

NOT_TOLD = "not told by what was imported"
NAMED_ENTRIES = 4
MAX_REASON = 1000
LARGEST = {INT: 2**31 - 1, LONG: 2**63 - 1}


@dataclass(frozen=True)
class Outcome:
    """What an import did.

    Attributes:
        environment_ids: environments of the rows.
        entries: numbers that were read.
        repeated: of those, how many are of an op that another one is of: one row, their median.
        derived: rows that are sums of entries.
        refused: what is in no row, each with the reason.
    """

    out: Path
    environment_ids: tuple[str, ...]
    rows: int
    entries: int
    repeated: int
    derived: int
    refused: tuple[tuple[str, str], ...]

    def summary(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "environment_ids": list(self.environment_ids),
            "rows": self.rows,
            "entries": self.entries,
            "repeated": self.repeated,
            "derived": self.derived,
            "refused": [{"name": name, "reason": reason} for name, reason in self.refused],
        }


def check_new(out: str | os.PathLike[str]) -> Path:
    """The real path of a table that is to be made.

    Raises:
        LutError: as `check_destination`, or something stands there.
    """
    target = check_destination(out)
    if target.exists():
        raise LutError(f"{target} exists; give another name, an import adds to no table")
    return target


def write_read(read: Read, out: str | os.PathLike[str], where: str) -> Outcome:
    """Write a new table. An op with several numbers gets their median; `reason` names its entries.

    Args:
        read: what was read.
        out: the table, which must not exist.
        where: the source, for messages.

    Raises:
        LutError: nothing was read, two parts have one environment, a table cannot hold what a part
            tells of its environment, or `out` cannot be written.
    """
    target = check_new(out)
    environments = {}
    rows = []
    refused = list(read.refused)
    derived = repeated = 0
    for part in read.parts:
        environment = _environment(part, where)
        if environment.environment_id in environments:
            raise LutError(f"{where} has two parts of one environment, {environment.describe()}")
        environments[environment.environment_id] = environment.to_dict()
        for entries in _by_op(part):
            try:
                rows.append(_row(part, environment.environment_id, entries))
            except HwprofError as error:
                refused += [(entry.name, str(error)) for entry in entries]
                continue
            derived += entries[0].source == "derived"
            repeated += len(entries) - 1
    if not rows:
        raise _nothing(where, refused)
    spaces = sorted({row["space"] for row in rows if row["space"]})
    metadata = {"spaces": spaces, "environments": environments}
    write_lut(target, rows, metadata=metadata, expected=None)
    return Outcome(
        out=Path(out),
        environment_ids=tuple(environments),
        rows=len(rows),
        entries=len(rows) - derived + repeated,
        repeated=repeated,
        derived=derived,
        refused=tuple(refused),
    )


def _nothing(where: str, refused: list[tuple[str, str]]) -> LutError:
    first = (
        f"; {len(refused)} could not be read, first {refused[0][0]}: {refused[0][1]}" if refused else ""
    )
    return LutError(f"{where} holds no number of an op that can be expressed{first}")


def _by_op(part: Part) -> Iterator[list[Entry]]:
    """The entries of each op; a derived one only where nothing else is of its op."""
    found: dict[OpSpec | str, list[Entry]] = {}
    for entry in sorted(part.entries, key=lambda entry: entry.source != "imported"):
        key = entry.what.network_id if isinstance(entry.what, Network) else entry.what
        others = found.setdefault(key, [])
        if entry.source == "imported" or not others:
            others.append(entry)
    yield from found.values()


def _row(part: Part, environment_id: str, entries: list[Entry]) -> dict[str, Any]:
    first = entries[0]
    row = {**null_row(), **_columns(first.what), **_shared(part, environment_id)}
    for name in first.facts:
        values = [entry.facts.get(name) for entry in entries]
        if all(value == values[0] for value in values):
            row[name] = values[0]
    row["latency_ms"] = float(median(entry.latency_ms for entry in entries))
    row |= {"reason": _reason(entries), "source": first.source, **_energy(entries)}
    if not part.dtype_told:
        row["bytes_moved"] = None
    for column in COLUMNS:
        most = LARGEST.get(column.type)
        if most is not None and row[column.name] is not None and row[column.name] > most:
            raise LutError(f"{column.name} is {row[column.name]}, more than {column.type} holds")
    return row


def _energy(entries: list[Entry]) -> dict[str, Any]:
    """The median, as of the latency; of some of the entries it would be of other calls than that."""
    told = [entry.facts["energy_mj"] for entry in entries if "energy_mj" in entry.facts]
    if len(told) == len(entries):
        return {"energy_mj": median(told), "energy_reason": None}
    reason = f"told by {len(told)} of the {len(entries)} entries" if told else NOT_TOLD
    return {"energy_mj": None, "energy_reason": reason}


def _columns(what: OpSpec | Network) -> dict[str, Any]:
    if isinstance(what, Network):
        return {**what.columns, "granularity": "network"}
    return {**op_columns(what), "granularity": "op"}


def _shared(part: Part, environment_id: str) -> dict[str, Any]:
    """The columns that are alike in all rows of a part."""
    return {
        "environment_id": environment_id,
        "cache": part.cache,
        "backend": part.identity["runtime"],
        "target": part.identity["device"],
        "threads": part.identity.get("threads", DEFAULT_THREADS),
        "regime": "burst",
        "state": "imported",
        "peak_memory_source": NOT_TOLD,
        "space": part.space,
        "hwprof_version": __version__,
        "schema_version": SCHEMA_VERSION,
    }


def _reason(entries: list[Entry]) -> str:
    words = [f"{entry.name} ({entry.told})" for entry in entries[:NAMED_ENTRIES]]
    if len(entries) == 1:
        return words[0][:MAX_REASON]
    return f"median of {len(entries)}: {listed(words, NAMED_ENTRIES, len(entries))}"[:MAX_REASON]


def _environment(part: Part, where: str) -> Environment:
    """Raises LutError where a source's own words could not be read back from a table's metadata."""
    digest = hashlib.sha256()
    for entry in part.entries:
        if entry.source == "imported":
            digest.update(f"{entry.name}:{entry.latency_ms!r}\n".encode())
    conditions = {"doubts": list(part.doubts), "entries_sha256": digest.hexdigest()}
    try:
        parse(json.dumps([part.identity, conditions], allow_nan=False).encode())
    except ValueError as error:
        raise LutError(
            f"no table can hold what {where} tells of its device: {error}; import it without that"
        ) from None
    return Environment(part.identity, conditions)
