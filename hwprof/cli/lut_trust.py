"""`hwprof lut verify`, `sign`, `set` and `cite`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

SHOWN = 10
WORDS = {True: "ok", False: "FAILED", None: "-"}


@click.command("verify")
@click.argument("table")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="File of public keys: the table must be signed by one of them.",
)
@click.option(
    "--severity",
    type=click.Choice(("note", "warning", "error")),
    default="error",
    show_default=True,
    help="Findings of lint that are this bad or worse fail.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all checks and findings as JSON.")
@click.pass_context
def verify(
    context: click.Context, /, table: str, key: Path | None, severity: str, as_json: bool
) -> None:
    """Check TABLE: its hashes, its signature, its schema, and what lint finds. Exit code 1 if one fails.

    \b
    Example:
      hwprof lut verify lut.parquet
      hwprof lut verify lut.parquet --key alice.pub
    """
    from hwprof.lut.places import local_table
    from hwprof.lut.trust.verify import verify as run

    found = run(local_table(table), key, severity)
    if as_json:
        click.echo(json.dumps(found.summary()))
    else:
        click.echo(f"{found.path}: {'verified' if found.passed else 'NOT verified'}")
        for check in found.checks:
            click.echo(f"  {WORDS[check.passed]:<6} {check.name}: {check.message}")
        for finding in found.findings[:SHOWN]:
            click.echo(f"         {finding.severity}: {finding.rule}: {finding.message}")
        if len(found.findings) > SHOWN:
            click.echo(f"         and {len(found.findings) - SHOWN} more: hwprof lut lint {found.path}")
    if not found.passed:
        context.exit(1)


@click.command("sign")
@click.argument("table")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Your private Ed25519 key, of ssh-keygen or openssl.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the signature as JSON.")
def sign(table: str, key: Path, as_json: bool) -> None:
    """Sign TABLE, its visits and its metadata. The signature stands in the table's metadata.

    A passphrase is asked for, or taken from HWPROF_PASSPHRASE.

    \b
    Example:
      ssh-keygen -t ed25519 -f hwprof_key
      hwprof lut sign lut.parquet --key hwprof_key
    """
    from dataclasses import asdict

    from hwprof.lut.trust.signature import sign as run

    made = run(table, key, _passphrase)
    told = {"path": table, **asdict(made), "fingerprint": made.fingerprint}
    click.echo(json.dumps(told) if as_json else f"{table}: signed by {made.fingerprint}")


@click.command("set")
@click.argument("table")
@click.option("--licence", help="SPDX id or text, e.g. CC-BY-4.0; empty for none.")
@click.option("--title", help="What the table is cited as; empty for none.")
@click.option("--author", "authors", multiple=True, help="Who made it; may be repeated; empty for none.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def set_facts(
    table: str, licence: str | None, title: str | None, authors: tuple[str, ...], as_json: bool
) -> None:
    """Set licence, title and authors of TABLE. Its rows stay as they are; its signature goes.

    \b
    Example:
      hwprof lut set lut.parquet --licence CC-BY-4.0 --author "Ada Lovelace" --title "Pixel 8, S3NAS"
    """
    from hwprof.lut.trust.facts import set_facts as run

    facts: dict[str, Any] = {}
    if licence is not None:
        facts["licence"] = licence or None
    if title is not None:
        facts["title"] = title or None
    if authors:
        facts["authors"] = [name for name in authors if name] or None
    if not facts:
        raise click.UsageError("Nothing to set; give --licence, --title or --author.")
    signed = run(table, facts)
    if as_json:
        click.echo(json.dumps({"path": table, **facts, "signature_removed": signed}))
        return
    click.echo(f"{table}: set {', '.join(facts)}")
    if signed:
        click.echo(
            "its signature was taken away, since it was of other metadata; sign it again", err=True
        )


@click.command("cite")
@click.argument("table")
@click.option("--bibtex", is_flag=True, help="Print a BibTeX entry.")
@click.option("--json", "as_json", is_flag=True, help="Print all parts and both spellings as JSON.")
def cite(table: str, bibtex: bool, as_json: bool) -> None:
    """Print how to cite TABLE.

    \b
    Example:
      hwprof lut cite lut.parquet
      hwprof lut cite lut.parquet --bibtex >> paper.bib
    """
    from hwprof.lut.places import local_table
    from hwprof.lut.trust.cite import cite as run

    made = run(local_table(table))
    if as_json:
        click.echo(json.dumps(made.summary()))
    else:
        click.echo(made.bibtex() if bibtex else made.text())


def _passphrase() -> str:
    import os

    told = os.environ.get("HWPROF_PASSPHRASE")
    if told is not None:
        return told
    return str(click.prompt("Passphrase", hide_input=True, err=True))
