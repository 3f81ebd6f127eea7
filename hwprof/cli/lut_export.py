"""`hwprof lut export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.lut.exporting import Exported

SHOWN = 20
FORMATS = ("csv", "json", "ofa", "proxylessnas", "s3nas")
STATISTICS = ("latency_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms", "min_ms")


@click.command("export")
@click.argument("path")
@click.option(
    "--format",
    "file_format",
    required=True,
    type=click.Choice(FORMATS),
    help="csv and json hold all rows; ofa, proxylessnas (YAML) and s3nas (a folder) one number an op.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new file or folder.")
@click.option("--environment", help="Only rows of this environment.")
@click.option("--cache", help="Only rows of this cache state; one number an op: default warm.")
@click.option("--dtype", help="Only rows of this element type.")
@click.option(
    "--statistic",
    type=click.Choice(STATISTICS),
    default="latency_ms",
    show_default=True,
    help="The one number of an op.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def export(
    path: str, file_format: str, out: Path, environment: str | None, cache: str | None,
    dtype: str | None, statistic: str, as_json: bool,
) -> None:  # fmt: skip
    """Write the table at PATH in a form that other tools or published search code read.

    \b
    Example:
      hwprof lut export lut.parquet --format csv --out lut.csv
      hwprof lut export lut.parquet --format ofa --out 160_lookup_table.yaml
    """
    from hwprof.lut.exporting import export as run
    from hwprof.lut.places import local_table

    made = run(
        local_table(path),
        out,
        file_format,
        environment=environment,
        cache=cache,
        dtype=dtype,
        statistic=statistic,
    )
    click.echo(json.dumps(made.summary()) if as_json else _text(made))


def _text(made: Exported) -> str:
    lines = [f"{made.out}: {made.rows} rows as {made.entries} entries of {made.file_format}"]
    lines += [f"  left out: {label}: {reason}" for label, reason in made.left_out[:SHOWN]]
    if len(made.left_out) > SHOWN:
        lines.append(f"  left out: and {len(made.left_out) - SHOWN} more; --json lists all")
    return "\n".join(lines)
