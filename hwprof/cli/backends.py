"""`hwprof backends`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.backends.backend import Option


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
    for heading in ("name", "available", "version", "targets", "dtypes", "options", "to install"):
        table.add_column(heading)
    for entry in found:
        state = "yes" if entry.available else f"no: {entry.missing}"
        table.add_row(
            entry.name,
            state,
            entry.version,
            " ".join(entry.targets),
            " ".join(entry.dtypes),
            "\n".join(_option_text(name, option) for name, option in entry.options.items()),
            entry.install,
        )
    Console().print(table)


def _option_text(name: str, option: Option) -> str:
    """`mode=eager|compile`, the default first."""
    values = [option.default, *(choice for choice in option.choices if choice != option.default)]
    return f"{name}={'|'.join(values) if option.choices else option.default or '...'}"
