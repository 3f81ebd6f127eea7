"""`hwprof scale`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.validation import narrowing

if TYPE_CHECKING:
    from hwprof.ops import OpSpec
    from hwprof.search.scale import Found
    from hwprof.validation.setting import Setting, Wanted


@click.command("scale")
@click.argument("network")
@click.option("--lut", "path", required=True, type=click.Path(path_type=Path), help="The table.")
@click.option("--target-ms", required=True, type=float, help="Latency that the network may take.")
@click.option("--point", help="Choice indices, 0,3,1,...; needed where NETWORK is a space with choices.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the scaled network, NAME.yaml.")
@click.option("--depth", default=1.1, show_default=True, help="Depth is multiplied by it at phi 1.")
@click.option("--width", default=1.1, show_default=True, help="Width is multiplied by it at phi 1.")
@click.option(
    "--resolution", default=1.2, show_default=True, help="Resolution is multiplied by it at phi 1."
)
@click.option("--divisor", default=16, show_default=True, help="Widths are multiples of it.")
@click.option("--allow-unstable", is_flag=True, help="Use rows in state unstable too.")
@narrowing
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def scale(
    network: str, path: Path, target_ms: float, point: str | None, out: Path | None, depth: float,
    width: float, resolution: float, divisor: int, allow_unstable: bool, as_json: bool, **narrowed: Any,
) -> None:  # fmt: skip
    """Scale depth, width and resolution of NETWORK together, to the largest one whose predicted latency
    is at or below the target.

    NETWORK is the JSON of a found network ({"space": ..., "point": [...]}), or a space with --point.
    Rows that the table lacks are measured, as its rows were, and added to it.

    \b
    Example:
      hwprof scale found.json --lut lut.parquet --target-ms 20 --out scaled.yaml
      hwprof scale my-network.yaml --lut lut.parquet --target-ms 20 --json
    """
    from hwprof.search.scale import scale_to_target
    from hwprof.search.scaling_network import network_of
    from hwprof.search.scaling_rules import ScalingRule
    from hwprof.search.space_file import check_space_file, write_space
    from hwprof.validation.setting import Wanted

    rule = ScalingRule(depth, width, resolution, divisor)
    found = _found(network, point)
    if out is not None:
        check_space_file(out)
    prices = _Prices(path, Wanted(**narrowed), found, allow_unstable)
    space = found.space.with_options(prices.scope.batch, prices.scope.dtype)
    made = scale_to_target(
        network_of(space, found.point), prices.price, target_ms, rule,
        told=lambda phi, ms: click.echo(f"phi {phi:.2f}: {ms:.4g} ms", err=True),
    )  # fmt: skip
    if out is not None:
        summary = f"{space.name} scaled to {target_ms:g} ms (phi {made.shape.phi:g}), by hwprof scale"
        write_space(out, made.shape.network.document(f"{space.name[:57]}-scaled", summary))
    told = {
        "space": space.name, **made.summary(), "rows_measured": prices.measured,
        "composition": prices.composition, "out": None if out is None else str(out),
    }  # fmt: skip
    click.echo(json.dumps(told) if as_json else _text(told))


class _Prices:
    """Prices networks by the table, and measures the rows that it lacks in the setting of its own.

    Attributes:
        measured: how many rows were measured.
    """

    def __init__(self, path: Path, wanted: Wanted, found: Found, allow_unstable: bool) -> None:
        from hwprof.lut import load_lut
        from hwprof.search.scale import only_scope
        from hwprof.validation.setting import find_setting

        self.measured = 0
        self._path, self._allow_unstable = path, allow_unstable
        table = load_lut(path)
        environment = wanted.environment_id
        of_it = {"environment_id": environment} if environment else {}
        self._setting: Setting | None = None
        if not len(table.filter(granularity="op", source="measured", **of_it)):
            space = found.space.with_options(wanted.batch or 1, wanted.dtype or "float32")
            self.scope = only_scope(table, space, environment, wanted.cache)
            return
        if wanted.space is None and found.space.name in table.metadata["spaces"]:
            wanted = replace(wanted, space=found.source)
        self._setting = find_setting(path, wanted)
        self.scope = self._setting.scope

    @property
    def composition(self) -> str | None:
        """What the rows are put together by; None: the plain sum."""
        from hwprof.lut import load_lut
        from hwprof.search.scale import composition_name

        return composition_name(load_lut(self._path), self.scope)

    def price(self, ops: Sequence[OpSpec]) -> float:
        from hwprof.lut import load_lut
        from hwprof.search.scale import network_price, ops_without_row

        if missing := ops_without_row(load_lut(self._path), self.scope, ops):
            self._measure(missing)
        table = load_lut(self._path)
        return network_price(table, self.scope, ops, allow_unstable=self._allow_unstable)

    def _measure(self, ops: Sequence[OpSpec]) -> None:
        from hwprof.build import build_lut, plan_of
        from hwprof.build.progress import Progress
        from hwprof.errors import MissingRow
        from hwprof.measure.messages import Job
        from hwprof.validation.setting import require_same_environment

        if self._setting is None:
            labels = ", ".join(op.label for op in ops)
            raise MissingRow(
                f"{self._path} lacks {len(ops)} rows that a scaled network needs, and its rows are "
                f"imported, so none can be measured: {labels}; import these too, or take a table that "
                "was measured here"
            )
        require_same_environment(self._setting)
        build = self._setting.build
        planner = plan_of(self._setting.space, [Job((op,)) for op in ops], build.protocol())
        report = build_lut(build, Progress(), planner=planner)
        if report.interrupted:
            raise click.Abort  # what was measured is kept; the same command goes on
        self.measured += report.measured


def _found(network: str, point: str | None) -> Found:
    """The network that the command line names."""
    from hwprof.search.scale import Found, read_found
    from hwprof.space import load_space

    if network.endswith(".json"):
        if point is not None:
            raise click.UsageError("--point goes with a space; the JSON of a found network has its own")
        return read_found(Path(network))
    space = load_space(network)
    chosen = [0] * len(space.positions)
    if point is not None:
        try:
            chosen = [int(choice) for choice in point.split(",")]
        except ValueError:
            raise click.UsageError(f"--point {point!r} is no list such as 0,3,1") from None
    elif any(len(position.choices) > 1 for position in space.positions):
        raise click.UsageError(f"{space.name} has choices: name one network of it with --point 0,3,...")
    return Found(network, space, tuple(chosen))


def _text(told: Mapping[str, Any]) -> str:
    lines = [
        f"{told['space']}: phi {told['phi']:.2f}, predicted {told['latency_ms']:.4g} ms of "
        f"{told['target_ms']:g} ms ({told['composition'] or 'plain sum of rows, uncalibrated'})",
        f"  input          {'x'.join(map(str, told['input']))}",
        f"  widths         {', '.join(map(str, told['widths']))}",
        f"  blocks         {'-'.join(map(str, told['depths']))}",
        f"  parameters     {told['parameters'] / 1e6:.2f} M, {told['flops'] / 2e9:.3g} G "
        "multiply-accumulates",
        f"  unscaled       {told['own_latency_ms']:.4g} ms",
        f"  next larger    {told['next']['latency_ms']:.4g} ms (phi {told['next']['phi']:.2f})",
        f"  rows           {told['rows_measured']} measured for it",
    ]
    if told["out"]:
        lines.append(f"  written to     {told['out']}")
    return "\n".join(lines)
