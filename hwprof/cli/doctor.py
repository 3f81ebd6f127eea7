"""`hwprof doctor`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.doctor import Finding

COLOURS = {"bad": "bold red", "warn": "yellow", "unknown": "dim", "ok": "green"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print machine, conditions and findings as JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Say what will make numbers poor on this machine, and what to do. Changes nothing.

    Looks for about a second. Exits with 1 if a finding is bad.

    \b
    Example:
      hwprof doctor
      hwprof doctor --json
    """
    from hwprof.doctor import examine, verdict
    from hwprof.environment import describe_machine, machine_conditions, machine_identity

    findings = examine()
    overall = verdict(findings)
    machine = machine_identity()
    if as_json:
        answer = {
            "verdict": overall,
            "machine": machine,
            "conditions": machine_conditions(),
            "findings": [finding.to_dict() for finding in findings],
        }
        click.echo(json.dumps(answer, allow_nan=False))
    else:
        click.echo(describe_machine(machine))
        _print_findings(findings)
        click.echo(f"verdict: {overall}")
    if overall == "bad":
        context.exit(1)


def _print_findings(findings: Sequence[Finding]) -> None:
    """On a terminal a table, and the advice below it, where no cell breaks a command; else one line per
    finding."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for finding in findings:
            click.echo(finding.line())
        return
    table = Table()
    for heading in ("", "check", "measured", "wanted"):
        table.add_column(heading)
    for finding in findings:
        cells = (Text(cell) for cell in (finding.name, finding.measured, finding.threshold))
        table.add_row(Text(finding.severity, style=COLOURS[finding.severity]), *cells)
    console.print(table)
    for finding in findings:
        if finding.effect:
            click.echo(f"{finding.name}: {finding.effect}\n    {finding.remedy}")
