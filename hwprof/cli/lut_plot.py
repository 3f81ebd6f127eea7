"""`hwprof lut plot`."""

from __future__ import annotations

import json
from pathlib import Path

import click

CHARTS = ("latency-flops", "heatmap", "drift", "prediction", "error", "change")
"""As in `hwprof.report`, which is not imported for a help text; a test keeps the two equal."""


@click.command("plot")
@click.argument("path")
@click.argument("other", required=False)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="The picture, .png or .svg."
)
@click.option(
    "--chart",
    default="latency-flops",
    show_default=True,
    type=click.Choice(CHARTS),
    help="What to draw; change needs a second table.",
)
@click.option(
    "--environment",
    "environments",
    multiple=True,
    help="Only rows of this environment; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def plot(
    path: str, other: str | None, out: Path, chart: str, environments: tuple[str, ...], as_json: bool
) -> None:
    """Draw one chart of the table at PATH as a picture.

    \b
    Example:
      hwprof lut plot lut.parquet -o latency.svg
      hwprof lut plot lut.parquet -o drift.png --chart drift
      hwprof lut plot monday.parquet friday.parquet -o change.png --chart change
    """
    from hwprof.lut.places import local_table
    from hwprof.report.plot import write_plot

    paths = [local_table(table) for table in (path, other) if table is not None]
    made = write_plot(paths, out, chart, environments)
    click.echo(json.dumps(made) if as_json else f"{out}: {made['caption']}")
