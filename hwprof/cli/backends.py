"""`hwprof backends`."""

from __future__ import annotations

import json

import click


@click.command("backends")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def backends(as_json: bool) -> None:
    """List backends with version, targets and what is missing.

    \b
    Example:
      hwprof backends --json
    """
    from rich.console import Console
    from rich.table import Table

    from hwprof.backends.listing import list_backends

    found = list_backends()
    if as_json:
        click.echo(json.dumps([entry.to_dict() for entry in found]))
        return
    table = Table(title="backends")
    for heading in ("name", "available", "version", "targets", "dtypes", "to install"):
        table.add_column(heading)
    for entry in found:
        state = "yes" if entry.available else f"no: {entry.missing}"
        table.add_row(
            entry.name,
            state,
            entry.version,
            " ".join(entry.targets),
            " ".join(entry.dtypes),
            entry.install,
        )
    Console().print(table)
