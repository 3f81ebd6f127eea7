"""`hwprof backends`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.backends.backend import Option
    from hwprof.backends.listing import BackendEntry


@click.command("backends")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def backends(as_json: bool) -> None:
    """List backends with version, targets and what is missing.

    \b
    Example:
      hwprof backends --json
    """
    from hwprof.backends.listing import list_backends

    found = list_backends()
    if as_json:
        click.echo(json.dumps([entry.to_dict() for entry in found]))
        return
    click.echo("\n\n".join(_entry_text(entry) for entry in found))


def _entry_text(entry: BackendEntry) -> str:
    """A paragraph, as wide as it must be: names that are typed again are never cut."""
    lines = [f"{entry.name} {entry.version}".rstrip() + ("" if entry.available else ": not available")]
    lines += [f"  {name:<8} {text}" for name, text in _facts(entry) if text]
    lines += [
        f"  --option {_option_text(name, option)}: {option.meaning}"
        for name, option in entry.options.items()
    ]
    return "\n".join(lines)


def _facts(entry: BackendEntry) -> tuple[tuple[str, str], ...]:
    others = ["any other that it knows" if entry.targets else "any text, which it checks"]
    return (
        ("missing", entry.missing),
        ("install", entry.install),
        ("targets", ", ".join([*entry.targets, *(others if entry.open_targets else [])])),
        ("dtypes", ", ".join(entry.dtypes)),
    )


def _option_text(name: str, option: Option) -> str:
    """`mode=eager|compile`, the default first."""
    values = [option.default, *(choice for choice in option.choices if choice != option.default)]
    return f"{name}={'|'.join(values) if option.choices else option.default or '...'}"
