"""`hwprof export-jobs` and `hwprof import-results`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hwprof.cli.build import backend_options


@click.command("export-jobs")
@click.option("--backend", required=True, help="tflite or onnxruntime.")
@click.option("--space", required=True, help="A shipped space (see `hwprof spaces`) or a YAML file.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--target", default="", help="What the backend compiles for; default: its first target.")
@backend_options
@click.option("--threads", default=1, show_default=True, help="Threads of the runtime on the device.")
@click.option("--batch", default=1, show_default=True, help="Batch size of every op.")
@click.option("--dtype", default="float32", show_default=True, help="Element type.")
@click.option(
    "--effort", default="normal", show_default=True, help="fast, normal or rigorous: visits a row gets."
)
@click.option("--limit", type=int, help="Export at most this many ops.")
@click.option("--seed", default=0, show_default=True, help="Seed of the visit order and the inputs.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def export_jobs(context: click.Context, /, as_json: bool, **chosen: Any) -> None:
    """Compile every op of a search space into a folder that a phone or board measures.

    The folder holds the models, a plan, and run.py, which needs Python and the runtime on the device.

    \b
    Example:
      hwprof export-jobs --backend tflite --space s3nas --out jobs
      hwprof export-jobs --backend tflite --space s3nas --dtype int8 --threads 4 --out jobs-int8
    """
    from hwprof.offline import ExportOptions, export_jobs

    report = export_jobs(ExportOptions(**chosen), _note)
    if as_json:
        click.echo(json.dumps(report.summary()))
    else:
        click.echo(
            f"{report.out}: {report.exported} models, {len(report.failures)} ops that do not compile; "
            f"about {report.minutes:.0f} minutes on a device as fast as a server's core\n"
            f"next: {report.out / 'README.txt'} says how to carry, run and import them"
        )
    if report.failed:
        context.exit(1)


@click.command("import-results")
@click.argument("source", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The table, NAME.parquet.")
@click.option("--device", default="", help="Name of the device, where its own is missing or too broad.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def import_results(context: click.Context, source: Path, out: Path, device: str, as_json: bool) -> None:
    """Put what run.py measured on a device into a table, under that device's environment.

    FOLDER is an exported folder with results.jsonl in it, or such a file beside its plan.json. Importing
    twice changes nothing.

    \b
    Example:
      hwprof import-results jobs --out lut.parquet
      hwprof import-results jobs/pixel.jsonl --device "Pixel 7" --out lut.parquet
    """
    from hwprof.offline import import_results

    report = import_results(source, out, device, _note)
    if as_json:
        click.echo(json.dumps(report.summary()))
    else:
        states = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items()))
        click.echo(f"{report.out}: {report.rows} rows from the device ({states or 'none new'})")
        if report.kept:
            click.echo(
                f"{report.kept} rows of the table stay: what came for them has no number, is not "
                "finished, or is older"
            )
        if report.next_step:
            click.echo(report.next_step)
    if report.failed:
        context.exit(1)


def _note(text: str) -> None:
    click.echo(text, err=True)
