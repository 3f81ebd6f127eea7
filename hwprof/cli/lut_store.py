"""`hwprof lut compact`."""

from __future__ import annotations

import json

import click


@click.command("compact")
@click.argument("store")
@click.option(
    "--forget",
    type=click.IntRange(min=7),
    metavar="DAYS",
    help="Remove files that no version of the last DAYS needs: older ones can no longer be read.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def compact(store: str, forget: int | None, as_json: bool) -> None:
    """Rewrite the small files of STORE into large ones. All versions stay readable, unless --forget.

    Others may append meanwhile.

    \b
    Example:
      hwprof lut compact delta+s3://team/store
      hwprof lut compact delta+s3://team/store --forget 90
    """
    from hwprof.lut.store import Store

    done = Store(store).compact(forget)
    if as_json:
        click.echo(json.dumps(done))
        return
    for name, part in done.items():
        click.echo(
            f"{name}: {part['files_merged']} files merged into {part['files_made']}, "
            f"{part['files_removed']} removed"
        )
