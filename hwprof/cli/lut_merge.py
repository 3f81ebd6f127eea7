"""`hwprof lut merge`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.lut.merging import Merged

SHOWN = 10
SECONDS_BETWEEN = 1.0


@click.command("merge")
@click.argument("paths", nargs=-1, required=True, metavar="TABLE...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The merged table.")
@click.option(
    "--on-conflict",
    type=click.Choice(("refuse", "newest", "most-precise")),
    default="refuse",
    show_default=True,
    help="Where tables have different rows of one op, environment and cache state.",
)
@click.option("--without-visits", is_flag=True, help="Leave all visits out.")
@click.option("--overwrite", is_flag=True, help="Replace another table that stands there.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def merge(
    paths: tuple[str, ...],
    out: Path,
    on_conflict: str,
    without_visits: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Merge tables, shards of one build or of many devices and teams, into one.

    \b
    Example:
      hwprof lut merge a.parquet b.parquet --out all.parquet
      hwprof lut merge all.parquet c.parquet --out all.parquet
      hwprof lut merge teams/*.parquet --out all.parquet --on-conflict newest
    """
    from hwprof.lut.merging import merge as run
    from hwprof.lut.places import local_table

    made = run(
        [local_table(path) for path in paths],
        out,
        on_conflict,
        visits=not without_visits,
        overwrite=overwrite,
        progress=_progress(),
    )
    click.echo(json.dumps(made.summary()) if as_json else _text(made))


def _progress() -> Callable[[int, int], None]:
    """Tells a long merge's progress on stderr, once a second."""
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > SECONDS_BETWEEN:
            told = time.monotonic()
            click.echo(f"{done:,} rows written, {total:,} to read in all", err=True)

    return tell


def _text(made: Merged) -> str:
    from hwprof.text import visible

    lines = [f"{made.out}: {made.rows} rows of {len(made.sources)} tables"]
    lines += [f"  {source.origin} {source.rows} rows: {source.path}" for source in made.sources[:SHOWN]]
    if len(made.sources) > SHOWN:
        lines.append(f"  and {len(made.sources) - SHOWN} more tables; --json lists all")
    if made.visits is not None:
        lines.append(f"  {made.visits} visits")
    if made.same:
        lines.append(f"  {made.same} rows were there before, equal in all columns")
    if made.conflicts:
        lines.append(f"  {made.conflicts} rows differed between tables; kept by the rule {made.rule}:")
        lines += [
            f"    {each.label}: {each.kept}, not {', '.join(each.dropped)}" for each in made.told[:SHOWN]
        ]
        if made.conflicts > SHOWN:
            lines.append(f"    and {made.conflicts - SHOWN} more; --json lists 1000")
    lines.append(f"  licence: {visible(made.licence or 'none given')}")
    if made.signature_removed:
        lines.append("  its signature was taken away, since it was of other rows; sign it again")
    return "\n".join(lines)
