"""`hwprof sample`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.build import Duration
from hwprof.cli.validation import INTERRUPTED, narrowing, seed_option

if TYPE_CHECKING:
    from hwprof.sampling.sample import Sampled, Step

ENDED = {
    "target": "the target is reached",
    "budget": "the budget is used up before the target is reached",
    "space": "there is nothing left to measure, and the target is not reached",
}


@click.command("sample")
@click.argument("path", metavar="TABLE", type=click.Path(path_type=Path))
@click.option(
    "--budget", required=True, type=Duration(), help="Time to spend, such as 10m; all of it counts."
)
@click.option(
    "--target-error",
    type=float,
    default=0.02,
    show_default=True,
    help="Stop when the mean relative error is below this with 95 %; 0.02 is 2 %.",
)
@seed_option("Which networks are candidates.")
@narrowing
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def sample(
    context: click.Context, /, path: Path, budget: float, target_error: float, seed: int, as_json: bool,
    **narrowed: Any,
) -> None:  # fmt: skip
    """Measure the networks and missing ops that lower the error of TABLE the most for each second.

    All that is measured becomes rows of the table; the same command goes on from there.

    \b
    Example:
      hwprof build-lut --backend onnxruntime --space s3nas-cifar --out lut.parquet --limit 60
      hwprof sample lut.parquet --budget 10m --target-error 0.02
      hwprof fit-predictor lut.parquet --out p/
    """
    from hwprof.build.progress import Progress
    from hwprof.sampling.sample import sample as run
    from hwprof.validation.early_end import Interrupted
    from hwprof.validation.setting import Wanted

    try:
        done = run(
            path, Wanted(**narrowed), budget_s=budget, target_error=target_error, seed=seed,
            progress=Progress(), told=lambda step: click.echo(_step(step), err=True),
        )  # fmt: skip
    except Interrupted as end:
        click.echo(f"hwprof: {end}", err=True)
        context.exit(INTERRUPTED)
    click.echo(json.dumps(done.summary()) if as_json else _text(path, done))
    if not done.reached:
        context.exit(1)


def _step(step: Step) -> str:
    error = "error not known yet"
    if step.error is not None and step.bound is not None:
        error = f"error {step.error:.2%}, below {step.bound:.2%} with 95 %"
    return (
        f"{step.wall_s:6.0f} s: +{step.networks} networks, +{step.ops} ops; {step.known} networks "
        f"known, {step.missing} ops without a row; {error}"
    )


def _text(path: Path, done: Sampled) -> str:
    last = done.steps[-1]
    measured = f"{sum(s.networks for s in done.steps)} networks, {sum(s.ops for s in done.steps)} ops"
    if done.reached and len(done.steps) == 1:
        what = "the target was reached before: nothing was measured"
    else:
        what = f"{ENDED[done.ended]}: measured {measured} in {last.wall_s:.0f} s"
    known = ""
    if last.error is not None and last.bound is not None:
        known = (
            f"\n  error      {last.error:.2%} of {last.known} networks, each predicted from the others; "
            f"below {last.bound:.2%} with 95 %, target {done.target_error:.2%}"
        )
    missing = f"\n  rows       {last.missing} ops of the space have none" if last.missing else ""
    return f"{path}: {what}{known}{missing}\n  next       hwprof fit-predictor {path} --out predictor"
