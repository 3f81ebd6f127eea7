"""`hwprof lut import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprof.errors import LutError

if TYPE_CHECKING:
    from hwprof.lut.importing import Imported, Outcome, Request

FORMATS = (
    "s3nas",
    "ofa",
    "proxylessnas",
    "fbnet",
    "hw-nas-bench",
    "tvm",
    "onnxruntime",
    "litert",
    "csv",
)
SHOWN = 20


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "file_format",
    required=True,
    type=click.Choice(FORMATS),
    help="What SOURCE is; what each takes stands in docs/importing.md.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new table.")
@click.option("--device", help="Device that the numbers are of, where SOURCE does not tell it.")
@click.option("--runtime", help="What ran or simulated the ops, where SOURCE does not tell it.")
@click.option("--threads", type=int, help="Threads of the runtime; where nobody tells, rows say 1.")
@click.option("--batch", type=int, help="Images of one inference (fbnet, hw-nas-bench); default: 1.")
@click.option("--per-ms", type=float, help="What SOURCE counts per ms (s3nas: 1000000, fbnet: 1000).")
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN,...",
    help="csv: which column is which field, e.g. latency_us=t,kind=op; may be repeated.",
)
@click.option(
    "--layers", help="fbnet: imagenet, cifar10, or SIDE:S,S,S,S,S,S,S, where SOURCE has no shapes."
)
@click.option("--metric", help="hw-nas-bench: the column or table, e.g. raspi4_latency.")
@click.option("--dataset", help="hw-nas-bench: data set of NAS-Bench-201 networks; default: cifar10.")
@click.option(
    "--model", type=click.Path(path_type=Path), help="litert: the .tflite file of the profile."
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def import_lut(
    source: Path,
    file_format: str,
    out: Path,
    device: str | None,
    runtime: str | None,
    threads: int | None,
    batch: int | None,
    per_ms: float | None,
    columns: tuple[str, ...],
    layers: str | None,
    metric: str | None,
    dataset: str | None,
    model: Path | None,
    as_json: bool,
) -> None:
    """Read latencies that others have published or measured, in SOURCE, into a new table.

    Rows are in state `imported`: they have no interval, and say which entries they were made from.
    Entries that hold no latency of an op that can be expressed are named.

    \b
    Example:
      hwprof lut import s3nas_midap_lut --format s3nas --out midap.parquet
      hwprof lut import ofa_note10 --format ofa --device "Samsung Note10" --out note10.parquet
      hwprof lut import b.csv --format csv --device b --runtime own --map latency_us=t --out b.parquet
    """
    from hwprof.lut.importing import Request, import_table

    request = Request(
        device=device,
        runtime=runtime,
        threads=threads,
        batch=batch,
        per_ms=per_ms,
        columns=_columns(columns),
        layers=layers,
        metric=metric,
        dataset=dataset,
        model=model,
    )
    if file_format == "s3nas":
        s3nas = _import_s3nas(source, out, request)
        click.echo(json.dumps(s3nas.summary()) if as_json else _s3nas_text(s3nas))
        return
    made = import_table(source, out, file_format, request)
    click.echo(json.dumps(made.summary()) if as_json else _text(made))


def _columns(texts: tuple[str, ...]) -> dict[str, str]:
    """Field -> column of `--map`."""
    found: dict[str, str] = {}
    for text in texts:
        for pair in text.split(","):
            name, separator, column = (part.strip() for part in pair.partition("="))
            if not separator or not name or not column or name in found:
                raise LutError(f"--map {pair!r} is no FIELD=COLUMN, or names the field again")
            found[name] = column
    return found


def _import_s3nas(source: Path, out: Path, request: Request) -> Imported:
    """S3NAS's folder has defaults of its own, and its own rules for entries of one op."""
    from hwprof.lut.importing import PUBLISHED, Origin, Request, import_s3nas

    given = {"device": request.device, "runtime": request.runtime, "per_ms": request.per_ms}
    if request != Request(**given):  # type: ignore[arg-type]
        raise LutError("format s3nas takes --device, --runtime and --per-ms alone")
    told = {name: value for name, value in given.items() if value is not None}
    return import_s3nas(source, out, Origin(**told) if told else PUBLISHED)  # type: ignore[arg-type]


def _text(made: Outcome) -> str:
    environments = ", ".join(made.environment_ids)
    lines = [f"{made.out}: {made.rows} rows from {made.entries} entries, environment {environments}"]
    if made.repeated:
        lines.append(
            f"  {made.repeated} entries are of an op that another one is of: a row is their median"
        )
    if made.derived:
        lines.append(f"  {made.derived} rows are sums of entries")
    lines += [f"  not read: {name}: {reason}" for name, reason in made.refused[:SHOWN]]
    if len(made.refused) > SHOWN:
        lines.append(f"  not read: {len(made.refused) - SHOWN} more; --json names all")
    return "\n".join(lines)


def _s3nas_text(made: Imported) -> str:
    lines = [
        f"{made.out}: {made.rows} rows from {made.entries} entries, environment {made.environment_id}",
        f"  {made.same} entries name an op that another one names, with the same number: one row",
        f"  {made.heads} rows are heads: the sum of a 1x1 convolution, a pool and a classifier",
    ]
    if made.zeros:
        lines.append(f"  0 is no latency, counted in a head alone: {', '.join(made.zeros)}")
    lines += [f"  not read: {place}: {reason}" for place, reason in made.refused]
    return "\n".join(lines)
