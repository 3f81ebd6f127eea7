"""`hwprof predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprof.cli.build import Duration

if TYPE_CHECKING:
    from hwprof.models.predict import Prediction, UnitPrice


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--lut", required=True, type=click.Path(path_type=Path), help="The table to price from.")
@click.option("--environment", "environment_id", help="Environment id of the rows.")
@click.option("--dtype", help="Element type of the rows.")
@click.option("--cache", help="Cache state of the rows.")
@click.option(
    "--statistic", default="floor", show_default=True, help="floor or p50, as of `hwprof validate`."
)
@click.option("--allow-unstable", is_flag=True, help="Price from rows in state unstable too.")
@click.option("--allow-missing", is_flag=True, help="Price the rest where units have no price.")
@click.option("--units", "shown", default=10, show_default=True, help="Print so many slowest units.")
@click.option("--measure", is_flag=True, help="Measure the whole model too, as the rows were.")
@click.option("--space", help="With --measure: file of the rows' space, where it is not a shipped one.")
@click.option("--effort", default="normal", show_default=True, help="With --measure: visits it gets.")
@click.option("--op-timeout", "op_timeout_s", type=Duration(), default="120s", show_default=True,
              help="With --measure: time limit of its compilation and of a visit.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the outcome with every unit as JSON.")
@click.pass_context
def predict(
    context: click.Context, /, model: Path, lut: Path, environment_id: str | None, dtype: str | None,
    cache: str | None, statistic: str, allow_unstable: bool, allow_missing: bool, shown: int,
    measure: bool, space: str | None, effort: str, op_timeout_s: float, as_json: bool,
) -> None:  # fmt: skip
    """Predict the latency of the ONNX file MODEL from a table.

    The model is split into the units that the runtime compiles; each is priced from the rows of the
    same kernel nearby, and those that no row is near to are refused by name. Exit code 1 where the
    price is of a part of the model (--allow-missing).

    \b
    Example:
      hwprof predict model.onnx --lut general.parquet
      hwprof predict model.onnx --lut general.parquet --measure --json
    """
    from hwprof.lut import load_lut
    from hwprof.models.predict import Predictor
    from hwprof.models.reading import read_model
    from hwprof.models.rows import select_rows

    read = read_model(model)
    selection = select_rows(
        load_lut(lut), environment_id=environment_id, dtype=dtype, cache=cache, statistic=statistic,
        allow_unstable=allow_unstable,
    )  # fmt: skip
    found = Predictor(selection).predict(read, allow_missing=allow_missing)
    if measure:
        from hwprof.build.progress import Progress
        from hwprof.models.measuring import measure_file

        found = found.measured(
            measure_file(
                model, selection, space=space, effort=effort, op_timeout_s=op_timeout_s,
                progress=Progress(),
            )
        )  # fmt: skip
    click.echo(json.dumps(found.summary()) if as_json else _text(found, shown))
    if found.refused:
        context.exit(1)


def _text(found: Prediction, shown: int) -> str:
    fitted = f"fitted on {found.networks} networks" if found.networks else "not fitted on networks"
    lines = [
        f"{found.model}: {found.latency_ms:.4g} ms, {found.low_ms:.4g} to {found.high_ms:.4g} ms with "
        "90 %",
        f"  rows           {found.rows} of {found.environment_id}, {found.statistic}, {found.cache}; "
        f"each is {found.left_out_error:.1%} off on average where the others predict it",
        f"  coverage       {found.exact:.0%} of the time exact rows, {found.interpolated:.0%} "
        f"interpolated, {found.refused} of {len(found.units)} units refused",
        f"  overhead       {found.overhead_ms:.4g} ms beside the units; {fitted}",
    ]
    if found.measured_ms is not None:
        lines.append(f"  measured       {found.measured_ms:.4g} ms, prediction {found.error:+.1%}")
    slowest = sorted(found.units, key=lambda unit: -(unit.latency_ms or 0.0))
    lines += [_unit_text(unit) for unit in slowest[: max(0, shown)] if unit.latency_ms]
    lines += [
        f"  refused: {unit.kind} ({unit.name}): {unit.reason}"
        for unit in found.units
        if unit.reason is not None
    ]
    return "\n".join(lines)


def _unit_text(unit: UnitPrice) -> str:
    source = f"row {unit.row}" if unit.row else unit.source
    return f"  {unit.latency_ms:9.4f} ms  {unit.kind} ({unit.name}): {source}"
