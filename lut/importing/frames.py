"""HW-NAS-Bench-like sources as one frame: a name per architecture or op, and columns of numbers.

HW-NAS-Bench (Li et al. 2021, github.com/GATECH-EIC/HW-NAS-Bench) publishes a pickle, which is code and
is not read. Its content as JSON, CSV or Parquet is, and so are tables of others in that form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hwprof.errors import LutError
from hwprof.lut.importing.guarded import MAX_BYTES, csv_rows, parse_json, plain, read_text, shown
from hwprof.text import listed

NAME_COLUMNS = ("arch", "arch_str", "architecture", "op", "key", "block")
SPACES = ("nasbench201", "fbnet")
LATENCY, ENERGY = "_latency", "_energy"
NO_LATENCIES = ("energy", "arithmetic_intensity")
"""Endings of HW-NAS-Bench's metrics that are no times."""
MAX_ROWS = 100_000
MAX_NAMED = 20
PARQUET_MAGIC = b"PAR1"
PICKLE_MAGIC = b"\x80"


@dataclass(frozen=True)
class Frame:
    """`names` are architecture strings or keys of ops; `columns` has as many values in each."""

    names: Sequence[str]
    columns: Mapping[str, Sequence[Any]]


def read_frame(source: Path, dataset: str | None, metric: str | None) -> Frame:
    """The frame of a JSON, CSV or Parquet file, told apart by its first bytes.

    Args:
        source: the file.
        dataset: which of the data sets of a JSON file.
        metric: the column that is wanted, None for the only one: of a Parquet file no other is read.

    Raises:
        LutError: the file is none of these, is a pickle, or has no column of names; of a Parquet file
            also as `chosen_metric`.
    """
    head = _head(source)
    if head.startswith(PARQUET_MAGIC):
        return _parquet(source, metric)
    if head.startswith(PICKLE_MAGIC):
        raise LutError(
            f"{source} is a pickle: reading one runs whatever code is in it; save its content as JSON, "
            "CSV or Parquet where you trust it"
        )
    if head.lstrip()[:1] == b"{":
        return _json(parse_json(read_text(source), str(source)), str(source), dataset)
    return _csv(source)


def chosen_metric(names: Sequence[str], asked: str | None, source: Path) -> str:
    """The column of latencies: the one that is asked for, else the only one.

    Raises:
        LutError: there is no such column, it is none of latencies, or nothing is asked of several.
    """
    times = [name for name in names if not name.lower().endswith(NO_LATENCIES)]
    if asked is not None and asked not in names:
        raise LutError(f"{source} has no metric {asked[:60]!r}; it has {_choice(times or names)}")
    if not times:
        raise LutError(
            f"{source} has {_choice(names) or 'no metrics'} and no latencies; add a column such as "
            f"raspi4{LATENCY}, in milliseconds"
        )
    if asked is not None and asked not in times:
        raise LutError(
            f"{source}: {plain(asked)} is no latency; give --metric NAME: it has {_choice(times)}"
        )
    latencies = [name for name in times if name.endswith(LATENCY)]
    if asked is None and len(latencies) != 1 and len(times) != 1:
        raise LutError(
            f"{source} has {len(names)} metrics; give --metric NAME: "
            f"it has {_choice(latencies or times)}"
        )
    return asked or (latencies or times)[0]


def energy_of(metric: str) -> str:
    """The column of energies beside one of latencies."""
    return f"{metric.removesuffix(LATENCY)}{ENERGY}"


def _choice(names: Sequence[str]) -> str:
    return listed([plain(name) for name in names[:MAX_NAMED]], MAX_NAMED, len(names))


def _head(source: Path) -> bytes:
    try:
        if not source.is_file():
            raise LutError(f"{source} is no file")
        with source.open("rb") as file:
            return file.read(16)
    except (OSError, ValueError) as error:
        raise LutError(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _json(data: Any, where: str, dataset: str | None) -> Frame:
    """`{SPACE: {DATASET: {METRIC: [...], "config": [{"arch_str": ...}]}}}` for NAS-Bench-201,
    `{SPACE: {METRIC: {OP: number}}}` for FBNet; the outer names may be left out."""
    spaces = [name for name in SPACES if isinstance(data.get(name), dict)]
    if len(spaces) > 1:
        raise LutError(f"{where} holds {' and '.join(spaces)}; give a file with one of them")
    data = data[spaces[0]] if spaces else data
    sets = [name for name, value in data.items() if isinstance(value, dict) and _named(value)]
    if sets:
        chosen = dataset or (sets[0] if len(sets) == 1 else None)
        if chosen not in sets:
            raise LutError(f"{where} has the data sets {_listed(sets)}; give --dataset NAME")
        data = data[chosen]
    if (name := _named(data)) is not None:
        names = [_architecture(value) for value in data[name]]
        lists = {key: value for key, value in data.items() if key != name and isinstance(value, list)}
        if uneven := next((key for key, value in lists.items() if len(value) != len(names)), None):
            raise LutError(f"{where}: {shown(uneven)} has not as many values as {name}, {len(names)}")
        return _bounded(Frame(names, lists), where)
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    names = list(dict.fromkeys(key for table in tables.values() for key in table))
    columns = {key: [table.get(name) for name in names] for key, table in tables.items()}
    if not names:
        raise LutError(f"{where} has neither lists beside a list of architectures nor a table of ops")
    return _bounded(Frame(names, columns), where)


def _named(data: Mapping[str, Any]) -> str | None:
    """The field that lists the architectures."""
    return next((name for name in ("config", *NAME_COLUMNS) if isinstance(data.get(name), list)), None)


def _architecture(value: Any) -> str:
    """A string, or HW-NAS-Bench's config of a network, which has it as `arch_str`."""
    return str(value.get("arch_str") if isinstance(value, dict) else value)


def _csv(source: Path) -> Frame:
    rows = csv_rows(source)
    _, header = next(rows, (0, []))
    header = [name.strip() for name in header]
    place = _name_column(header, str(source))
    columns: list[list[str]] = [[] for _ in header]
    for number, row in rows:
        if len(row) != len(header):
            raise LutError(f"{source}:{number} has {len(row)} cells, the first line {len(header)}")
        for column, cell in zip(columns, row, strict=True):
            column.append(cell.strip())
        if len(columns[0]) > MAX_ROWS:
            raise LutError(f"{source} has more than {MAX_ROWS} rows; give a part of it")
    values = {
        name: column for name, column in zip(header, columns, strict=True) if name != header[place]
    }
    return Frame(columns[place], {name: list(map(_number, column)) for name, column in values.items()})


def _parquet(source: Path, metric: str | None) -> Frame:
    try:
        file = pq.ParquetFile(
            source, thrift_string_size_limit=1 << 24, thrift_container_size_limit=1 << 20
        )
        names = file.schema_arrow.names
        place = names[_name_column(names, str(source))]
        if file.metadata.num_rows > MAX_ROWS:
            raise LutError(f"{source} has more than {MAX_ROWS} rows; give a part of it")
        metric = chosen_metric([name for name in names if name != place], metric, source)
        wanted = [place, *(name for name in names if name in (metric, energy_of(metric)))]
        _check_plain(file, wanted, source)
        # Row group by row group: a file that says less than it holds is stopped at the first lie.
        table = pa.concat_tables(_groups(file, wanted, source)) if file.num_row_groups else None
        if table is None:
            return Frame([], {name: [] for name in wanted[1:]})
        columns = {name: table.column(name).to_pylist() for name in wanted}
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise LutError(f"{source} is damaged or no Parquet file: {first[:200]}") from None
    return Frame([str(name) for name in columns.pop(place)], columns)


def _check_plain(file: pq.ParquetFile, wanted: list[str], source: Path) -> None:
    """Only flat numbers and text, of a declared size."""
    for name in wanted:
        kind = file.schema_arrow.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind)):
            raise LutError(f"{source}: column {shown(name)} is {kind}, wanted numbers or text")
    sizes = (file.metadata.row_group(n).total_byte_size for n in range(file.num_row_groups))
    if sum(sizes) > MAX_BYTES:
        raise LutError(f"{source} unpacks to more than {MAX_BYTES} bytes; give a part of it")


def _groups(file: pq.ParquetFile, wanted: list[str], source: Path) -> list[pa.Table]:
    read: list[pa.Table] = []
    for number in range(file.num_row_groups):
        group = file.read_row_group(number, columns=wanted)
        group.validate(full=True)
        read.append(group)
        if sum(table.num_rows for table in read) > MAX_ROWS:
            raise LutError(f"{source} has more than {MAX_ROWS} rows; give a part of it")
    return read


def _name_column(names: Sequence[str], where: str) -> int:
    if len(set(names)) != len(names):
        raise LutError(f"{where} has a column twice")
    found = [name for name in NAME_COLUMNS if name in names]
    if not found:
        raise LutError(f"{where} has no column of names; call it {' or '.join(NAME_COLUMNS)}")
    return list(names).index(found[0])


def _bounded(frame: Frame, where: str) -> Frame:
    if len(frame.names) > MAX_ROWS:
        raise LutError(f"{where} has more than {MAX_ROWS} entries; give a part of it")
    return frame


def _number(cell: str) -> float | str | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _listed(names: Sequence[str]) -> str:
    return listed([shown(name) for name in names[:MAX_NAMED]], MAX_NAMED, len(names))
