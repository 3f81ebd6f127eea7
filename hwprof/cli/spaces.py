"""`hwprof spaces`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.text_table import print_table

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
        print_table(("name", "family", "blocks", "ops", "networks", "summary"), cells)
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
    print_table(
        ("position", "choices", "ops", "labels"),
        [(p["name"], len(p["choices"]), p["ops"], ", ".join(p["choices"])) for p in positions],
        cut="labels",
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
