"""Write a table in another form. What a form cannot say is left out by name, and nothing is made up."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.exporting.files import write_csv, write_folder, write_json, write_text
from hwprof.lut.exporting.keys import ofa_keys, proxylessnas_keys, s3nas_names
from hwprof.lut.exporting.numbers import shortest
from hwprof.lut.missing import environment_list
from hwprof.lut.schema import COLUMNS, USABLE_STATES
from hwprof.lut.table import Lut, load_lut
from hwprof.ops import OpSpec
from hwprof.text import listed

FORMATS = ("csv", "json", "ofa", "proxylessnas", "s3nas")
STATISTICS = ("latency_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms", "min_ms")
NAMERS: dict[str, Callable[[OpSpec], list[str]]] = {
    "ofa": ofa_keys, "proxylessnas": proxylessnas_keys, "s3nas": s3nas_names,
}  # fmt: skip
CYCLES_PER_MS = 10**6
"""S3NAS's files count cycles at 1 GHz; its flag `constraint_div_unit` divides by this."""
EXACT = 1e-9
NAMED = 10
WORDS = {"environment_id": "environment", "cache": "cache", "dtype": "dtype"}


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        rows: rows of the table that are in it.
        entries: rows, keys or files that were written; one op may have two names.
        left_out: label and reason of each row that the form cannot express.
    """

    out: Path
    file_format: str
    rows: int
    entries: int
    left_out: tuple[tuple[str, str], ...]

    def summary(self) -> dict[str, Any]:
        left_out = [{"label": label, "reason": reason} for label, reason in self.left_out]
        return {
            "out": str(self.out), "format": self.file_format, "rows": self.rows, "entries": self.entries,
            "left_out": left_out,
        }  # fmt: skip


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    file_format: str,
    *,
    environment: str | None = None,
    cache: str | None = None,
    dtype: str | None = None,
    statistic: str = "latency_ms",
) -> Exported:
    """Write the table at `path` to `out`, which may not exist.

    `csv` and `json` hold all rows and columns, failures too. `ofa`, `proxylessnas` and `s3nas` hold
    one number for each op of batch 1 with a usable row: `statistic`.

    Args:
        environment, cache, dtype: only rows of it. A form of one number an op takes `cache` as `warm`,
            and needs `environment` where the table has several.

    Raises:
        LutError: the table cannot be read, `out` exists or cannot be written, an unknown name, an
            environment, cache or dtype of no row, two rows that are one in the form, or no row that
            the form can express.
    """
    for name, value, allowed in (("format", file_format, FORMATS), ("statistic", statistic, STATISTICS)):
        if value not in allowed:
            raise LutError(f"{name} {value!r} is unknown; choose of {', '.join(allowed)}")
    target = Path(out)
    if os.path.lexists(target):
        raise LutError(f"{target} exists; give another name, an export replaces nothing")
    wanted = {"environment_id": environment, "cache": cache, "dtype": dtype}
    only = {name: value for name, value in wanted.items() if value is not None}
    lut = load_lut(path)
    if environment is not None and environment not in lut.environments:
        raise LutError(f"environment {environment!r} is not in {path}; it has {environment_list(lut)}")
    _check_choice(lut, only)
    if file_format in ("csv", "json"):
        write = write_csv if file_format == "csv" else write_json
        rows = write(Path(path), target, only)
        return Exported(target, file_format, rows, rows, ())
    chosen = lut.filter(granularity="op", **{"cache": "warm", **only})
    entries, rows, left_out = _entries(chosen, file_format, statistic)
    if not entries:
        why = f": {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise LutError(f"no row of {path} can be expressed as {file_format}{why}")
    if file_format == "s3nas":
        write_folder(target, {name: {"latency": _cycles(ms)} for name, (ms, _) in entries.items()})
    else:
        write_text(target, {key: _facts(*entry) for key, entry in entries.items()})
    return Exported(target, file_format, rows, len(entries), tuple(left_out))


def _check_choice(lut: Lut, only: Mapping[str, str]) -> None:
    """Raises LutError where no row has the given values: an empty file would look like an answer."""
    if not only or len(lut.filter(**only)):
        return
    names = list(only)
    table = lut.columns(names)
    for name, value in only.items():
        has = sorted(set(table.column(name).to_pylist()) - {None})
        if value not in has:
            raise LutError(
                f"{WORDS[name]} {value!r} is of no row of {lut.path}; its rows have {_listed(has)}"
            )
    asked = " and ".join(f"{WORDS[name]} {value!r}" for name, value in only.items())
    together = sorted(
        set(zip(*(table.column(name).to_pylist() for name in names), strict=True)), key=str
    )
    raise LutError(
        f"no row of {lut.path} has {asked} together; its rows have "
        f"{_listed([' with '.join(map(str, values)) for values in together])}"
    )


def _listed(values: list[str]) -> str:
    return listed(values, NAMED) or "none"


def _entries(
    lut: Lut, file_format: str, statistic: str
) -> tuple[dict[str, tuple[float, int | None]], int, list[tuple[str, str]]]:
    """Name -> number and timed calls; how many rows they are of; rows that are left out."""
    names = ("label", "op_json", "state", "batch", "samples", "environment_id", statistic)
    table = lut.columns(names)
    if len(found := sorted(table.column("environment_id").unique().to_pylist())) > 1:
        raise LutError(
            f"{lut.path} has such rows from {len(found)} environments; --environment takes "
            f"{environment_list(lut, found)}"
        )
    numbers = shortest(table.column(statistic), next(c.type for c in COLUMNS if c.name == statistic))
    entries: dict[str, tuple[float, int | None]] = {}
    labels: dict[str, str] = {}
    left_out = []
    rows = 0
    for row, number in zip(table.drop_columns([statistic]).to_pylist(), numbers, strict=True):
        try:
            keys = _names(row, number, statistic, NAMERS[file_format])
        except HwprofError as error:
            left_out.append((row["label"], str(error)))
            continue
        rows += 1
        for key in keys:
            if key in labels:
                raise LutError(
                    f"{labels[key]} and {row['label']} are both {key} in this form; choose with --dtype"
                )
            labels[key] = row["label"]
            entries[key] = (number, row["samples"])
    return dict(sorted(entries.items())), rows, left_out


def _names(
    row: dict[str, Any], number: float | None, statistic: str, namer: Callable[[OpSpec], list[str]]
) -> list[str]:
    if row["state"] not in USABLE_STATES:
        raise LutError(f"its state is {row['state']}")
    if number is None:
        raise LutError(f"it has no {statistic}")
    if row["batch"] != 1:
        raise LutError(f"its batch is {row['batch']}, the form is of batch 1")
    return namer(OpSpec.from_json(row["op_json"]))


def _facts(latency_ms: float, calls: int | None) -> dict[str, float | int]:
    """An entry as OFA and ProxylessNAS have it, without the spread, which is another one there."""
    return {"mean": latency_ms} if calls is None else {"count": calls, "mean": latency_ms}


def _cycles(latency_ms: float) -> float | int:
    """Whole where the number was whole before it became milliseconds."""
    cycles = latency_ms * CYCLES_PER_MS
    return round(cycles) if abs(cycles - round(cycles)) <= EXACT * cycles else cycles
