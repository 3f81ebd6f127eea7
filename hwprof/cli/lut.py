"""`hwprof lut`: look into a table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.lut_diff import diff
from hwprof.cli.lut_export import export
from hwprof.cli.lut_import import import_lut
from hwprof.cli.lut_lint import lint
from hwprof.cli.lut_merge import merge
from hwprof.cli.lut_plot import plot
from hwprof.cli.lut_registry import list_tables, pull, push
from hwprof.cli.lut_store import compact
from hwprof.cli.lut_trust import cite, set_facts, sign, verify
from hwprof.cli.text_table import print_table

if TYPE_CHECKING:
    from hwprof.lut import Lut


@click.group("lut")
def lut() -> None:
    """Look into a latency table.

    \b
    Example:
      hwprof lut info lut.parquet
      hwprof lut query lut.parquet "select kind, count(*) from lut group by kind"
    """


lut.add_command(cite)
lut.add_command(compact)
lut.add_command(diff)
lut.add_command(export)
lut.add_command(import_lut)
lut.add_command(lint)
lut.add_command(list_tables)
lut.add_command(merge)
lut.add_command(plot)
lut.add_command(pull)
lut.add_command(push)
lut.add_command(set_facts)
lut.add_command(sign)
lut.add_command(verify)


@lut.command("info")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(path: str, as_json: bool) -> None:
    """Size, trust and provenance of the table at PATH.

    \b
    Example:
      hwprof lut info lut.parquet
    """
    from rich.console import Console

    from hwprof.lut import load_lut

    summary = load_lut(path).summary()
    if as_json:
        click.echo(json.dumps(summary))
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for name, value in _info_lines(summary):
        console.print(f"{name:<16} {value}")


@lut.command("show")
@click.argument("path")
@click.option("--kind", multiple=True, help="Only ops of this kind; may be repeated.")
@click.option("--state", multiple=True, help="Only rows in this state; may be repeated.")
@click.option(
    "--sort", default="label", show_default=True, metavar="COLUMN", help="Order by this column."
)
@click.option("--descending", is_flag=True, help="Largest first.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Rows at most.")
@click.option("--json", "as_json", is_flag=True, help="Print all columns as JSON.")
def show(
    path: str,
    kind: tuple[str, ...],
    state: tuple[str, ...],
    sort: str,
    descending: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Rows of the table at PATH.

    \b
    Example:
      hwprof lut show lut.parquet --kind mbconv --sort latency_ms --descending --limit 10
    """
    from hwprof.lut import load_lut

    table = _only(load_lut(path), {"kind": kind, "state": state}).sort(sort, descending=descending)
    rows = table.table.slice(0, limit).to_pylist()
    if as_json:
        click.echo(json.dumps(_plain(rows)))
        return
    print_table(("op", "latency ms", "p50 ms", "state", "visits"), [_cells(row) for row in rows])
    if len(table) > limit:
        click.echo(f"{limit} of {len(table)} rows; --limit {len(table)} shows all", err=True)


@lut.command("query")
@click.argument("path")
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="Print a list of rows as JSON.")
def query(path: str, sql: str, as_json: bool) -> None:
    """Run one SQL SELECT (DuckDB) over the table at PATH, named lut, and its visits, named visits.

    \b
    Example:
      hwprof lut query lut.parquet "select label, latency_ms from lut order by latency_ms"
    """
    from hwprof.lut import load_lut
    from hwprof.lut.sql import query as run_query

    result = run_query(load_lut(path), sql)
    rows = result.to_pylist()
    if as_json:
        click.echo(json.dumps(_plain(rows)))
        return
    print_table(result.column_names, [tuple(_text(value) for value in row.values()) for row in rows])


def _only(table: Lut, wanted: dict[str, Sequence[str]]) -> Lut:
    """The rows whose column is one of the wanted values; an empty list wants all."""
    from hwprof.errors import LutError

    for name, values in wanted.items():
        there = sorted(set(table.columns([name]).column(0).to_pylist()))
        if strange := [value for value in values if value not in there]:
            raise LutError(f"--{name} {strange[0]} is not in {table.path}; it has {', '.join(there)}")
    return table.filter(**{name: list(values) for name, values in wanted.items() if values})


def _info_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    from hwprof.text import visible

    def share(value: float | None) -> str:
        return "no rows" if value is None else f"{value:.1%}"

    def counts(name: str) -> str:
        return ", ".join(f"{count} {value}" for value, count in summary[name].items()) or "none"

    spread = "no row has an interval"
    if summary["interval_half_width_median"] is not None:
        spread = (
            f"±{summary['interval_half_width_median']:.2%} (median), "
            f"±{summary['interval_half_width_p95']:.2%} (95th percentile)"
        )
    environments = [
        (f"environment {number}", f"{e['environment_id']}: {e['rows']} rows, {e['description']}")
        for number, e in enumerate(summary["environments"], start=1)
    ]
    lines = [
        ("table", f"{summary['path']}, {summary['rows']} rows, schema {summary['schema_version']}"),
        ("states", f"{counts('rows_by_state')}; converged {share(summary['converged_share'])}"),
        (f"{summary['interval_level']:.0%} interval", spread),
        ("granularity", counts("rows_by_granularity")),
        ("cache", counts("rows_by_cache")),
        *environments,
        ("spaces", ", ".join(summary["spaces"]) or "none"),
        *_composition_lines(summary),
        ("visits", summary["visits_file"] or "written without"),
        ("licence", summary["licence"] or "none given"),
        ("written", f"{summary['created_at']} ({summary['age_days']} days ago)"),
        ("hwprof", summary["hwprof_version"]),
        ("content hash", summary["content_hash"]),
    ]  # fmt: skip
    return [(name, visible(value)) for name, value in lines]


def _composition_lines(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """How rows become networks, and how well: one line a space and statistic."""
    compositions, errors = (
        [] if isinstance(summary[name], str) else summary[name]
        for name in ("composition", "validated_error")
    )
    lines = [
        (
            "composition",
            f"{_scope(made)}: {made['model']}, fitted on {made['networks']} networks to "
            f"{_percent(made['error'], 2)}",
        )
        for made in compositions
    ] or [("composition", "uncalibrated; hwprof calibrate fits one")]
    lines += [
        (
            "validated error",
            f"{_scope(found)}: mean {_percent(found['mean_error'], 2)} over {found['networks']} "
            f"held-out networks, {_percent(found['within_1'])} within 1%, "
            f"{_percent(found['within_2'])} within 2%"
            f"{'; not additive here' if found['additive'] is False else ''}",
        )
        for found in errors
    ] or [("validated error", "uncalibrated; hwprof validate measures it")]
    return lines


def _scope(entry: dict[str, Any]) -> str:
    return f"{entry.get('space')} {entry.get('statistic')}"


def _percent(share: float | None, digits: int = 0) -> str:
    """Another version of hwprof may have left it out."""
    return "an unknown share" if share is None else f"{share:.{digits}%}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    latency = _text(row["latency_ms"])
    if row["latency_low_ms"] is not None and row["latency_high_ms"] is not None:
        latency += f" ± {(row['latency_high_ms'] - row['latency_low_ms']) / 2:.2g}"
    state = row["state"] if row["latency_ms"] is not None else f"{row['state']}: {row['reason']}"
    return row["label"], latency, _text(row["p50_ms"]), state, _text(row["visits"])


def _text(value: Any) -> str:
    """A value in a cell; null is a dash."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """What JSON can hold: times as ISO 8601, decimals as numbers, NaN and infinities as null."""
    match value:
        case dict():
            return {str(name): _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case Decimal():
            return float(value)
        case date():
            return value.isoformat()
    return str(value)
