"""`hwprof lut lint`: what is wrong with a table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.lut.lint import Finding

SHOWN = 10


@click.command("lint")
@click.argument("path")
@click.option("--space", help="Also report the ops of this space, a name or YAML file, without a row.")
@click.option(
    "--against",
    multiple=True,
    metavar="TABLE",
    help="A table of another device, whose latencies may not be the same to the bit; may be repeated.",
)
@click.option(
    "--max-age",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Also report rows that are older than this.",
)
@click.option(
    "--severity",
    type=click.Choice(("note", "warning", "error")),
    default="error",
    show_default=True,
    help="Exit code 1 where a finding is this bad or worse.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all findings with their op ids as JSON.")
@click.pass_context
def lint(
    context: click.Context,
    /,
    path: str,
    space: str | None,
    against: tuple[str, ...],
    max_age: float | None,
    severity: str,
    as_json: bool,
) -> None:
    """Report what looks wrong in the table at PATH, worst first. A clean table prints nothing.

    \b
    Example:
      hwprof lut lint lut.parquet
      hwprof lut lint lut.parquet --against phone.parquet --severity warning
    """
    from hwprof.lut import load_lut
    from hwprof.lut.lint import at_least
    from hwprof.lut.lint import lint as run
    from hwprof.space import load_space

    found = run(
        load_lut(path),
        load_space(space) if space is not None else None,
        [load_lut(other) for other in against],
        max_age,
    )
    if as_json:
        click.echo(json.dumps({"path": path, "findings": [asdict(finding) for finding in found]}))
    else:
        for line in _lines(found):
            click.echo(line)
    if any(at_least(finding, severity) for finding in found):
        context.exit(1)


def _lines(found: list[Finding]) -> list[str]:
    """One line a finding, the first of each rule and severity, and how many there are in all."""
    lines = []
    for (severity, rule), group in groupby(found, key=lambda each: (each.severity, each.rule)):
        findings = list(group)
        lines += [f"{severity}: {rule}: {finding.message}" for finding in findings[:SHOWN]]
        if len(findings) > SHOWN:
            lines.append(f"{severity}: {rule}: and {len(findings) - SHOWN} more; --json lists all")
    counts = Counter(finding.severity for finding in found)
    if found:
        lines.append(", ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items()))
    return lines
