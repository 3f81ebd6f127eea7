"""`hwprof make-interpreter`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("make-interpreter")
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), help="Folder of the new interpreter.")
@click.option(
    "--base", type=click.Path(path_type=Path), help="Python to make it from; default: a fitting one."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def make_interpreter(name: str, into: Path | None, base: Path | None, as_json: bool) -> None:
    """Make a Python of its own for a runtime that cannot live beside hwprof (NAME: tflite-runtime).

    Needs a network, for pip. Prints the path to pass as --python.

    \b
    Example:
      hwprof make-interpreter tflite-runtime
    """
    from hwprof.measure.recipe import RECIPES, make_interpreter

    python = make_interpreter(name, into, base)
    use = f"hwprof build-lut {RECIPES[name].use} --python {python}"
    click.echo(json.dumps({"python": str(python), "use": use}) if as_json else f"{python}\n{use} ...")
