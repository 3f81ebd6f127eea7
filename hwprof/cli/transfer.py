"""`hwprof transfer`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.validation import INTERRUPTED, narrowing, seed_option

if TYPE_CHECKING:
    from hwprof.prediction.transfer import Transfer

SHOWN = (3, 10, 30, 100)


@click.command("transfer")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--lut", "table", required=True, type=click.Path(path_type=Path), help="The new device's.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--metric", default="latency_ms", show_default=True, help="Column to predict.")
@click.option("--level", default=0.9, show_default=True, help="Share of truths that the interval holds.")
@seed_option("Which networks may be chosen.")
@click.option(
    "--measure",
    type=click.IntRange(min=1),
    help="First measure so many further networks here: those that tell the most.",
)
@narrowing
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def transfer(
    context: click.Context, /, sources: tuple[Path, ...], table: Path, out: Path, metric: str,
    level: float, seed: int, measure: int | None, as_json: bool, **narrowed: Any,
) -> None:  # fmt: skip
    """Predict a new device from a few networks measured on it and from SOURCES: tables of other devices,
    or folders of predictors. Says how many more networks are worth measuring, and which.

    \b
    Example:
      hwprof build-lut --backend onnxruntime --space nb201 --out new.parquet --limit 1
      hwprof transfer desk.parquet board.parquet --lut new.parquet --measure 10 --out p/
      hwprof transfer desk.parquet old-predictor/ --lut new.parquet --out p/ --json
    """
    from hwprof.build.progress import Progress
    from hwprof.prediction import save_predictor
    from hwprof.prediction.storage import check_folder
    from hwprof.sampling.transferring import transfer as run
    from hwprof.validation.early_end import Interrupted
    from hwprof.validation.setting import Wanted

    check_folder(out)
    try:
        made = run(
            sources, table, Wanted(**narrowed), metric=metric, level=level, seed=seed,
            measured=measure or 0, progress=Progress(),
        )  # fmt: skip
    except Interrupted as end:
        click.echo(f"hwprof: {end}", err=True)
        context.exit(INTERRUPTED)
    save_predictor(made.predictor, out)
    click.echo(json.dumps({**made.summary(), "out": str(out)}) if as_json else _text(table, out, made))


def _text(table: Path, out: Path, made: Transfer) -> str:
    fitted = made.predictor
    scores = fitted.tried[0].scores
    now = made.foreseen[0].error
    further = ", ".join(f"{f.further} more {f.error:.1%}" for f in made.foreseen if f.further in SHOWN)
    advice = "none: what is left is noise, or what no single network tells"
    if made.worth:
        advice = f"{made.worth} more: --measure {made.worth} measures those that tell the most"
    lines = [
        f"{table}: {fitted.metric} of {fitted.encoding.space} from {fitted.origin.networks} networks "
        f"measured there and {len(made.sources)} sources",
        *(f"  source     {name}" for name in made.sources),
        f"  error      {now:.1%} foreseen for a new network, of it {made.noise:.1%} noise of measuring",
    ]
    if scores is not None:
        lines.append(
            f"  left out   {scores.mean:.1%} of the measured networks, each predicted from the others"
        )
    lines += [
        f"  foreseen   {further or 'no further network is left'}",
        f"  worth it   {advice}",
        f"  interval   each value / {fitted.interval.factor:.3f} to x {fitted.interval.factor:.3f}, "
        f"made to hold {fitted.interval.level:.0%} of truths; holds {fitted.interval.coverage:.0%} of "
        "the measured networks, each left out",
        f"  kept in    {out}",
    ]
    return "\n".join(lines)
