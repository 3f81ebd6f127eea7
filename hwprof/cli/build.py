"""`hwprof build-lut`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hwprof.build import BuildReport, Plan

SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """Seconds, from `90`, `90s`, `10m` or `1.5h`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no duration; write 90, 90s, 10m or 1.5h", param, ctx)
        return float(match[1]) * SECONDS[match[2]]


def option_pairs(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping, for a repeated `--option`."""
    pairs: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as mode=compile")
        if name in pairs:
            raise click.BadParameter(f"{name} is given twice")
        pairs[name] = value
    return pairs


backend_options = click.option(
    "--option",
    "options",
    multiple=True,
    callback=option_pairs,
    help="A setting of the backend, NAME=VALUE; may be repeated. `hwprof backends` lists them.",
)


@click.command("build-lut")
@click.option("--backend", required=True, help="Runtime to measure on; see `hwprof backends`.")
@click.option("--space", required=True, help="A shipped space (see `hwprof spaces`) or a YAML file.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The table, NAME.parquet.")
@click.option("--target", default="", help="What the backend compiles for; default: its first target.")
@backend_options
@click.option("--rpc-tracker", default="", help="TVM: run on a device of this tracker, HOST:PORT.")
@click.option("--rpc-key", default="", help="TVM: the key under which the device is registered.")
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    help="Interpreter of the worker processes, where the runtime needs one of its own.",
)
@click.option("--threads", default=1, show_default=True, help="Intra-op threads of the runtime.")
@click.option("--batch", default=1, show_default=True, help="Batch size of every op.")
@click.option("--dtype", default="float32", show_default=True, help="Element type.")
@click.option(
    "--cache",
    default="warm",
    show_default=True,
    help="Cache state at each call: warm (as left by the last call), in_chain (weights out of level 2, "
    "input fresh), evicted (all levels swept).",
)
@click.option(
    "--effort", default="normal", show_default=True, help="fast, normal or rigorous: visits a row gets."
)
@click.option("--rel-precision", type=float, help="Visits must agree within this; 0.01 is 1 %.")
@click.option("--budget", type=Duration(), help="Time for the whole build, e.g. 90s or 10m.")
@click.option("--limit", type=int, help="Measure at most this many missing ops now.")
@click.option("--op-timeout", type=Duration(), default="120s", show_default=True,
              help="Time limit of one compilation or visit.")  # fmt: skip
@click.option(
    "--compile-timeout",
    type=Duration(),
    help="Time limit of one compilation; default: the backend's own, else --op-timeout.",
)
@click.option(
    "--sustain",
    type=Duration(),
    default="0s",
    show_default=True,
    help="Keep the device under load so long before measuring: its sustained, not its burst, speed.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the visit order and the inputs.")
@click.option("--resume/--fresh", default=True, help="Reuse rows and journal (default) or measure anew.")
@click.option("--retry-failed", is_flag=True, help="Measure failed, timeout and unstable rows again.")
@click.option("--dry-run", is_flag=True, help="Say how many ops and minutes, measure nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def build_lut(
    context: click.Context, /, resume: bool, dry_run: bool, as_json: bool, budget: float | None,
    op_timeout: float, compile_timeout: float | None, sustain: float, options: dict[str, str],
    rpc_tracker: str, rpc_key: str, **chosen: Any,
) -> None:  # fmt: skip
    """Measure every op of a search space and write a latency table.

    Rows that are in the table already are not measured again. A killed or interrupted build is taken up
    by the same command.

    \b
    Example:
      hwprof build-lut --backend onnxruntime --space s3nas --out lut.parquet
      hwprof build-lut --backend onnxruntime --space my.yaml --out lut.parquet --dry-run
    """
    from hwprof.build import BuildOptions, build_lut, make_plan
    from hwprof.build.progress import Progress

    rpc = {"rpc_tracker": rpc_tracker, "rpc_key": rpc_key}
    build = BuildOptions(
        **chosen,
        options={**options, **{name: value for name, value in rpc.items() if value}},
        budget_s=budget,
        op_timeout_s=op_timeout,
        compile_timeout_s=compile_timeout,
        sustain_s=sustain,
        fresh=not resume,
    )
    if dry_run:
        plan = make_plan(build)
        click.echo(json.dumps(plan.summary()) if as_json else _plan_text(plan, build.out))
        return
    report = build_lut(build, Progress())
    click.echo(json.dumps(report.summary()) if as_json else _report_text(report))
    if report.interrupted:
        context.exit(130)
    if report.failed:
        context.exit(1)


def _plan_text(plan: Plan, out: Path) -> str:
    return (
        f"{plan.space.name}: {plan.wanted} ops, {plan.present} already in {out}, "
        f"{len(plan.jobs)} to measure, about {plan.expected_minutes:.1f} minutes"
    )


def _report_text(report: BuildReport) -> str:
    states = (
        ", ".join(f"{count} {state}" for state, count in sorted(report.states.items())) or "none new"
    )
    share = report.timed_s / report.wall_s if report.wall_s else 0.0
    lines = [
        f"{report.out}: {report.measured} rows measured ({states}), {report.present} were there",
        f"{report.visits} visits in {report.wall_s:.0f} s, {share:.0%} of it inside timed calls",
    ]
    if report.unfinished:
        lines.append(f"{report.unfinished} rows are not finished: run the same command again to go on")
    if report.failed or report.states.get("unstable"):
        lines.append("to measure failed and unstable rows again: add --retry-failed")
    return "\n".join(lines)
