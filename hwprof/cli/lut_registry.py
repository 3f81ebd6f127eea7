"""`hwprof lut push`, `pull` and `list`: tables in registries and stores."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hwprof.lut.registry import Entry

HASH_DIGITS = 12


@click.command("push")
@click.argument("table")
@click.argument("place")
@click.option("--name", help="What to push it as; default: the file's name without .parquet.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def push(table: str, place: str, name: str | None, as_json: bool) -> None:
    """Put TABLE and its visits into the registry at PLACE, a folder or URL, or into the store at
    delta+PLACE. Either is made if there is none; what is there already is left as it is.

    \b
    Example:
      hwprof lut push lut.parquet s3://team/tables --name pixel4
      hwprof lut push lut.parquet delta+s3://team/store
    """
    from hwprof.lut.places import is_store, shown_url

    if is_store(place):
        from hwprof.lut.store import push_to_store

        appended = push_to_store(table, place, name)
        told = asdict(appended)
        text = f"batch {appended.batch_id}, version {appended.version} of {shown_url(place)}"
        new = appended.new
    else:
        from hwprof.lut.registry import push as push_to_registry

        pushed = push_to_registry(table, place, name)
        told = {**asdict(pushed.entry), "new": pushed.new, "sent_bytes": pushed.sent_bytes}
        text = f"{shown_url(place)}/{pushed.entry.name}@{pushed.entry.table.sha256[:HASH_DIGITS]}"
        new = pushed.new
    click.echo(json.dumps(told) if as_json else f"{text}{'' if new else ' (was there already)'}")


@click.command("pull")
@click.argument("place")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The table's file; default: NAME.parquet here."
)
@click.option("--overwrite", is_flag=True, help="Replace another table that stands there.")
@click.option("--offline", is_flag=True, help="Touch no network: take what was fetched before.")
@click.option("--version", type=click.IntRange(min=0), help="Of a store: the rows of this version.")
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]),
    help="Of a store: the rows that were there then (UTC unless it says otherwise).",
)
@click.option(
    "--on-conflict",
    type=click.Choice(("newest", "most-precise", "refuse")),
    help="Of a store: which row is taken where rows of one key differ; default: newest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def pull(
    place: str,
    out: Path | None,
    overwrite: bool,
    offline: bool,
    version: int | None,
    as_of: datetime | None,
    on_conflict: str | None,
    as_json: bool,
) -> None:
    """Fetch a table and its visits, verified by hash, from PLACE: a registry's folder or URL and /NAME
    or /NAME@HASH, the URL of a .parquet file, or delta+ and the place of a store.

    \b
    Example:
      hwprof lut pull s3://team/tables/pixel4 --out pixel4.parquet
      hwprof lut pull s3://team/tables/pixel4@0123456789ab
      hwprof lut pull delta+s3://team/store --as-of 2026-11-01 --out then.parquet
    """
    from hwprof.lut.places import copy_table, is_store, pull_table, table_name

    if is_store(place):
        from hwprof.lut.store import store_to_cache

        if as_of is not None and as_of.tzinfo is None:
            as_of = as_of.replace(tzinfo=UTC)
        kept = store_to_cache(
            place, offline=offline, version=version, as_of=as_of, on_conflict=on_conflict or "newest"
        )
        name = table_name(place)
    else:
        _refuse_store_options(version=version, as_of=as_of, on_conflict=on_conflict)
        kept, name = pull_table(place, offline=offline)
    target = out or Path(f"{name}.parquet")
    written = copy_table(kept, target, overwrite=overwrite)
    sha256 = kept.parent.name
    if as_json:
        click.echo(json.dumps({"path": str(target), "sha256": sha256, "written": written}))
    else:
        click.echo(f"{target}: {sha256[:HASH_DIGITS]}{'' if written else ' (was there already)'}")


@click.command("list")
@click.argument("place")
@click.option("--offline", is_flag=True, help="Touch no network: list what was seen before.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def list_tables(context: click.Context, /, place: str, offline: bool, as_json: bool) -> None:
    """Tables of the registry at PLACE, newest first under each name, or what is in the store at
    delta+PLACE. Exit code 1 if the registry holds entries that are not to be trusted.

    \b
    Example:
      hwprof lut list s3://team/tables
      hwprof lut list delta+s3://team/store --json
    """
    from hwprof.lut.places import is_store

    if is_store(place):
        if offline:
            raise click.UsageError("a store cannot be listed --offline.")
        _list_store(place, as_json)
        return
    from hwprof.lut.registry import list_tables as list_registry

    listing = list_registry(place, offline=offline)
    if as_json:
        click.echo(
            json.dumps({"tables": [asdict(e) for e in listing.entries], "refused": listing.refused})
        )
    else:
        heads = ("name", "hash", "pushed (UTC)", "rows", "MB", "environments", "licence")
        _print_columns(heads, [_cells(entry) for entry in listing.entries])
    for line in listing.refused:
        click.echo(f"refused: {line}", err=True)
    if listing.refused:
        context.exit(1)


def _list_store(place: str, as_json: bool) -> None:
    from hwprof.lut.store import list_store

    told = list_store(place)
    if as_json:
        click.echo(json.dumps(asdict(told)))
        return
    click.echo(f"version {told.version}: {told.rows} rows in {told.files} files")
    heads = ("name", "rows", "batches", "first pushed", "last pushed (UTC)", "environments", "licence")
    _print_columns(heads, [_source_cells(source) for source in told.sources])
    _print_columns(("version", "at (UTC)", "operation"), [
        (str(each["version"]), _time(each["at"]), each["operation"]) for each in told.versions
    ])  # fmt: skip


def _source_cells(source: dict[str, Any]) -> tuple[str, ...]:
    return (
        source["name"] or "-", str(source["rows"]), str(source["batches"]), _time(source["first"]),
        _time(source["last"]), "; ".join(source["environments"]), source["licence"] or "-",
    )  # fmt: skip


def _time(iso: str | None) -> str:
    return "-" if iso is None else iso[:19]


def _cells(entry: Entry) -> tuple[str, ...]:
    size = entry.table.bytes + (entry.visits.bytes if entry.visits else 0)
    return (
        entry.name, entry.table.sha256[:HASH_DIGITS], entry.pushed_at[:19], str(entry.rows),
        f"{size / 1e6:.2f}", "; ".join(entry.environments), entry.licence or "-",
    )  # fmt: skip


def _refuse_store_options(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} is for a store, delta+PLACE.")


def _print_columns(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Aligned columns, nothing cut off, all visible."""
    from hwprof.text import visible

    rows = [tuple(visible(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        click.echo(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
