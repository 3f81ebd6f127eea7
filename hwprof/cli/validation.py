"""`hwprof calibrate` and `hwprof validate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hwprof.cli.build import Duration, option_pairs

if TYPE_CHECKING:
    from hwprof.validation.calibrate import Calibration
    from hwprof.validation.report import Report
    from hwprof.validation.setting import Wanted

SHOWN_BLOCKS = 5
INTERRUPTED = 130
MAX_SEED = 2**63 - 1
OF_NETWORKS = ("networks", "statistic", "fit_networks", "measured_in", "allow_unstable", "plot")


def seed_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--seed`, whose help says what is drawn by it."""
    allowed = click.IntRange(min=0, max=MAX_SEED)
    return click.option("--seed", type=allowed, default=0, show_default=True, help=what)


def narrowing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which rows of a table are meant, and how to measure more of them."""
    options = (
        click.option("--space", help="Space of the rows, by name or YAML file; default: the only one."),
        click.option("--environment", "environment_id", help="Environment id of the rows."),
        click.option("--batch", type=int, help="Batch size of the rows."),
        click.option("--dtype", help="Element type of the rows."),
        click.option("--cache", help="Cache state of the rows."),
        click.option(
            "--option",
            "options",
            multiple=True,
            callback=option_pairs,
            help="A setting of the backend, NAME=VALUE, that the rows' environment does not state.",
        ),
        click.option(
            "--python",
            type=click.Path(path_type=Path),
            help="Interpreter of the worker processes, where the runtime needs one of its own.",
        ),
        click.option("--effort", default="normal", show_default=True, help="fast, normal or rigorous."),
        click.option(
            "--op-timeout",
            "op_timeout_s",
            type=Duration(),
            default="120s",
            show_default=True,
            help="Time limit of one compilation or visit.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command("calibrate")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--networks", default=20, show_default=True, help="How many networks to fit on.")
@seed_option("Which networks are drawn.")
@click.option(
    "--model",
    default="auto",
    show_default=True,
    help="From rows to networks: sum, scale, affine, terms, edges, scaled-edges, edges-and-terms, "
    "behind, behind-and-terms, or auto for the best by leaving one network out.",
)
@click.option("--edges", is_flag=True, help="Measure a pair of neighbours for each edge of the space.")
@click.option("--behind", is_flag=True, help="Measure each op of the space behind a neighbour too.")
@narrowing
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def calibrate(
    context: click.Context, /, path: Path, networks: int, seed: int, model: str, edges: bool,
    behind: bool, as_json: bool, **narrowed: Any,
) -> None:  # fmt: skip
    """Fit how the rows of the table at PATH make up a network's latency.

    Networks of the table's space are drawn, compiled and timed on the backend and in the environment of
    the rows; the fit and the networks' rows are stored in the table.

    \b
    Example:
      hwprof calibrate lut.parquet --networks 20
      hwprof calibrate lut.parquet --networks 30 --edges --json
    """
    from hwprof.build.progress import Progress
    from hwprof.validation.calibrate import calibrate as run

    with _interruptible(context):
        made = run(
            path, _wanted(narrowed), networks=networks, seed=seed, model=model, edges=edges,
            behind=behind, progress=Progress(),
        )  # fmt: skip
    click.echo(json.dumps(made.summary()) if as_json else _calibration_text(path, made))


@click.command("validate")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--networks", default=100, show_default=True, help="How many networks to hold out.")
@seed_option("Which networks are drawn.")
@click.option(
    "--statistic",
    default="floor",
    show_default=True,
    help="floor: the machine's fast mode; p50: the median call, what a loop of your own reads.",
)
@click.option(
    "--fit-networks",
    default=20,
    show_default=True,
    help="How many networks an uncalibrated table is calibrated on first.",
)
@click.option(
    "--measured-in",
    metavar="ENVIRONMENT",
    help="Id of this machine's environment, to hold rows of another one against networks measured here.",
)
@click.option("--allow-unstable", is_flag=True, help="Use held-out networks whose visits disagree too.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a plot, .png or .svg.")
@click.option(
    "--rebuild",
    type=int,
    help="Instead of networks: measure this many random rows again in new processes and compare.",
)
@click.option(
    "--max-error", type=float, help="Exit code 1 if the mean error is above this; 0.01 is 1 %."
)
@narrowing
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def validate(
    context: click.Context, /, path: Path, networks: int, seed: int, statistic: str, fit_networks: int,
    measured_in: str | None, allow_unstable: bool, plot: Path | None, rebuild: int | None,
    max_error: float | None, as_json: bool, **narrowed: Any,
) -> None:  # fmt: skip
    """Measure networks that no fit has seen and say how well the table at PATH predicts them.

    An uncalibrated table is calibrated first, on further networks. The networks' rows and the errors are
    stored in the table.

    \b
    Example:
      hwprof validate lut.parquet --networks 100 --plot errors.png
      hwprof validate lut.parquet --statistic p50 --json
      hwprof validate lut.parquet --rebuild 20
    """
    if rebuild is not None:
        if given := given_options(context, OF_NETWORKS):
            raise click.UsageError(
                f"--rebuild measures rows, not networks: leave out {', '.join(given)}"
            )
        with _interruptible(context):
            code = _measure_again(path, _wanted(narrowed), rebuild, seed, max_error, as_json)
        context.exit(code)
    from hwprof.build.progress import Progress
    from hwprof.validation.plot import check_plot, plot_report
    from hwprof.validation.validate import validate as run

    if plot is not None:
        check_plot(plot)
    with _interruptible(context):
        report = run(
            path, _wanted(narrowed), networks=networks, seed=seed, statistic=statistic,
            fit_networks=fit_networks, measured_in=measured_in, allow_unstable=allow_unstable,
            progress=Progress(),
        )  # fmt: skip
    click.echo(json.dumps(report.summary()) if as_json else _report_text(path, report))
    if plot is not None:
        plot_report(report, plot)
    if max_error is not None and report.errors.mean > max_error:
        context.exit(1)


def _measure_again(
    path: Path, wanted: Wanted, count: int, seed: int, max_error: float | None, as_json: bool
) -> int:
    """`--rebuild`: prints the outcome; the exit code."""
    from hwprof.build.progress import Progress
    from hwprof.cli.lut_diff import rebuild_text
    from hwprof.validation.rebuild import rebuild

    found = rebuild(path, wanted, count=count, seed=seed, progress=Progress())
    click.echo(json.dumps(found.summary()) if as_json else rebuild_text(found))
    usable = found.diff.usable
    above = max_error is not None and usable is not None and usable.mean > max_error
    return 1 if above or not found.agrees else 0


@contextmanager
def _interruptible(context: click.Context) -> Iterator[None]:
    """Ends the command with the exit code of an interruption, after saying what becomes of it."""
    from hwprof.validation.early_end import Interrupted

    try:
        yield
    except Interrupted as end:
        click.echo(f"hwprof: {end}", err=True)
        context.exit(INTERRUPTED)


def given_options(context: click.Context, names: Sequence[str]) -> list[str]:
    """Those of some options that were typed, as they are typed."""
    return [
        f"--{name.replace('_', '-')}"
        for name in names
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]


def _wanted(narrowed: dict[str, Any]) -> Wanted:
    from hwprof.validation.setting import Wanted

    return Wanted(**narrowed)


def _calibration_text(path: Path, made: Calibration) -> str:
    used = max(len(composition.networks) for composition in made.compositions)
    of = f" of {made.networks}" if used < made.networks else ""
    lines = [f"{path}: calibrated on {used}{of} networks in {made.wall_s:.0f} s"]
    for composition in made.compositions:
        lines.append(f"  {composition.describe()}")
        tried = ", ".join(f"{name} {error:.2%}" for name, error in composition.compared.items())
        lines.append(f"    mean error of each model: {tried}")
    if made.unstable_rows:
        lines.append(f"  unstable rows: {made.unstable_rows} ops of the space have no other number")
    lines += [f"  not used: {label}: {reason}" for label, reason in made.failed]
    return "\n".join(lines)


def _report_text(path: Path, report: Report) -> str:
    errors, composition = report.errors, report.composition
    within = ", ".join(f"{share:.0%} within {bound:.0%}" for bound, share in errors.within.items())
    lines = [
        f"{path}: {len(report.networks)} held-out networks of {composition.scope.space}, "
        f"{composition.scope.statistic}, {composition.scope.environment_id}",
        f"  mean error     {errors.mean:.2%}, median {errors.median:.2%}, bias {errors.bias:+.2%}",
        f"  share          {within}",
        f"  noise floor    {_percent(report.noise_floor)} between two measurements of one network",
        f"  without a fit  {report.raw.mean:.2%} for the plain sum of rows",
        f"  other ways     {report.constant.mean:.1%} for a constant, {report.flops.mean:.1%} for FLOPs",
        f"  ranks          Spearman {_rank(report.spearman)}, Kendall {_rank(report.kendall)} over the "
        "networks that are spread over latency",
        f"  composition    {composition.describe()}",
    ]
    if report.measured_in is not None:
        lines.append(f"  measured in    {report.measured_in}, another environment than the rows'")
    if report.calibrated_now:
        count = len(composition.networks)
        lines.append(f"  the table was uncalibrated: fitted now on {count} other networks")
    if report.unstable_networks:
        lines.append(
            f"  unstable       {report.unstable_networks} of the networks: their own visits disagree"
        )
    if report.unstable_rows:
        lines.append(
            f"  unstable rows  {report.unstable_rows} ops of these networks have no other number"
        )
    lines += additive_text(path, report) + _worst_text(report)
    lines += [f"  not used: {label}: {reason}" for label, reason in report.failed]
    return "\n".join(lines)


def additive_text(path: Path, report: Report) -> list[str]:
    """What is said where rows do not add up: the figure, and what there is to do about it."""
    mean = f"{report.errors.mean:.1%}"
    if report.edges_needed:
        return [
            f"  not additive here: {report.without_edges:.1%} without interaction terms; edges, what "
            f"neighbours do to each other, bring it to {mean}"
        ]
    if report.additive:
        return []
    if report.measured_in is not None:
        return [f"  the rows of the other environment are {mean} off here: build them here"]
    if not report.chain:
        step = (
            "Its networks are no chains, which have edges between neighbours: fit interaction terms on "
            f"the measured networks: hwprof fit-predictor {path} --out predictor --members "
            "additive,pairwise"
        )
    elif report.composition.uses_edges:
        step = "Interaction terms (edges) are in the model and do not make up for it"
    else:
        step = (
            f"Try interaction terms, what neighbours do to each other: hwprof calibrate {path} --edges"
        )
    return [
        f"  not additive here: {mean} is far above the noise floor; rows of single ops do not make up "
        f"such networks. {step}"
    ]


def _worst_text(report: Report) -> list[str]:
    lines = []
    for network in report.worst:
        lines.append(
            f"  worst: {network.label} predicted {network.predicted_ms:.4g}, measured "
            f"{network.measured_ms:.4g} ms ({network.error:+.2%}); its slowest blocks:"
        )
        blocks = sorted(network.blocks_ms, key=lambda block: -block[1])[:SHOWN_BLOCKS]
        lines += [f"    {ms:8.4f} ms  {label}" for label, ms in blocks]
    return lines


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2%}"


def _rank(found: Any) -> str:
    if found.value is None:
        return "not defined"
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
