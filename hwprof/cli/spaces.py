"""`hwprof spaces`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hwprof.space import Space


@click.command("spaces")
@click.argument("space", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def spaces(space: str | None, as_json: bool) -> None:
    """List the shipped search spaces, or describe SPACE: a shipped name or a YAML file.

    \b
    Example:
      hwprof spaces
      hwprof spaces s3nas
      hwprof spaces my.yaml --json
    """
    from hwprof.space import list_spaces, load_space

    if space is None:
        rows = [_summary(load_space(name)) for name in list_spaces()]
        if as_json:
            click.echo(json.dumps(rows))
            return
        cells = [
            (r["name"], r["family"], r["blocks"], r["ops"], _power(r["networks_log10"]), r["summary"])
            for r in rows
        ]
        _print_table(("name", "family", "blocks", "ops", "networks", "summary"), cells)
        return
    loaded = load_space(space)
    row = _summary(loaded)
    positions: list[dict[str, Any]] = [
        {
            "name": position.name,
            "kind": position.kind,
            "ops": len({op for choice in position.choices for op in choice.ops}),
            "choices": [choice.label for choice in position.choices],
        }
        for position in loaded.positions
    ]
    if as_json:
        click.echo(json.dumps({**row, "positions": positions}))
        return
    click.echo(f"{row['name']} ({row['family']}): {row['summary']}")
    click.echo(
        f"{row['blocks']} blocks, {row['ops']} ops, {_power(row['networks_log10'])} networks, "
        f"input {'x'.join(str(length) for length in row['input_shape'])} {row['dtype']}"
    )
    _print_table(
        ("position", "choices", "ops", "labels"),
        [(p["name"], len(p["choices"]), p["ops"], ", ".join(p["choices"])) for p in positions],
    )


def _summary(space: Space) -> dict[str, Any]:
    return {
        "name": space.name,
        "family": space.family,
        "blocks": space.blocks,
        "ops": len(space.ops()),
        "networks_log10": round(space.size, 2),
        "summary": space.summary,
        "input_shape": list(space.input_shape),
        "dtype": space.dtype,
        "space_hash": space.space_hash,
    }


def _power(exponent: float) -> str:
    return f"10^{exponent:.1f}"


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A rich table on a terminal, else one line per row in aligned columns, nothing cut off."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if console.is_terminal:
        table = Table()
        for heading in headings:
            table.add_column(heading, overflow="ellipsis", no_wrap=heading != "summary")
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        console.print(table)
        return
    texts = [tuple(headings), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    for text in texts:
        line = "  ".join(cell.ljust(width) for cell, width in zip(text, widths, strict=True))
        click.echo(line.rstrip())
