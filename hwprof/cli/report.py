"""`hwprof report`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("report")
@click.argument("path")
@click.argument("other", required=False)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The page, .html.")
@click.option(
    "--environment",
    "environments",
    multiple=True,
    help="Only rows of this environment; may be repeated, such as once for each table.",
)
@click.option(
    "--rows",
    "most_rows",
    default=20_000,
    show_default=True,
    type=click.IntRange(min=2),
    help="Rows that the page lists at most; charts are of all rows.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def report(
    path: str,
    other: str | None,
    out: Path,
    environments: tuple[str, ...],
    most_rows: int,
    as_json: bool,
) -> None:
    """Write one HTML page about the table at PATH, or about two tables side by side.

    The page holds everything it needs: it opens from a file, on a phone too, and loads nothing.

    \b
    Example:
      hwprof report lut.parquet -o report.html
      hwprof report monday.parquet friday.parquet -o compared.html --json
    """
    from hwprof.lut.places import local_table
    from hwprof.report.page import write_report

    paths = [local_table(table) for table in (path, other) if table is not None]
    made = write_report(paths, out, environments, most_rows)
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"{out}: {made['rows_of_tables']} rows, {made['bytes'] / 1e6:.1f} MB")
    for chart, reason in made["absent"].items():
        click.echo(f"  without {chart}: {reason}", err=True)
