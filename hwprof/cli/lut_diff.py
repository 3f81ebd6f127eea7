"""`hwprof lut diff`, and a diff in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.lut.diff.row_changes import CommonFactor
    from hwprof.lut.diff.tables import Agreement, Diff, RowDifference, StateChange
    from hwprof.lut.diff.timeline import Series, Speeds, Timeline
    from hwprof.validation.rebuild import Rebuild


@click.command("diff")
@click.argument("a")
@click.argument("b")
@click.option(
    "--environment",
    "environments",
    multiple=True,
    help="Only rows of this environment; may be repeated, such as once for each table.",
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Rows at most.")
@click.option(
    "--max-change",
    type=click.FloatRange(min=0),
    help="Exit code 1 if a row changed significantly by more than this; 0.02 is 2 %.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def diff(
    context: click.Context, /, a: str, b: str, environments: tuple[str, ...], limit: int,
    max_change: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare the tables A and B: what moved all rows, and which rows changed beyond their noise.

    \b
    Example:
      hwprof lut diff monday.parquet friday.parquet
      hwprof lut diff old.parquet new.parquet --max-change 0.02 --json
    """
    from hwprof.lut import load_lut
    from hwprof.lut.diff.tables import diff as compare

    found = compare(load_lut(a), load_lut(b), environments)
    click.echo(json.dumps(found.summary(limit)) if as_json else diff_text(found, limit))
    if max_change is not None and found.largest_change > max_change:
        context.exit(1)


def diff_text(found: Diff, limit: int) -> str:
    """A diff in lines; at most `limit` changed rows and as many rows of another state."""
    same = "; their rows are equal to the bit" if found.same_content else ""
    paths = [f"a                {found.path_a}", f"b                {found.path_b}{same}"]
    return "\n".join([*paths, *_lines(found, limit)])


def rebuild_text(found: Rebuild, limit: int = 20) -> str:
    """What `hwprof validate --rebuild` found, in lines; a is the table, b the new measurement."""
    verdict = "they agree" if found.agrees else "they do not agree"
    if not found.diff.tested:
        verdict = "nothing to compare"
    lines = [
        f"{found.diff.path_a}: {found.drawn} of {found.usable} usable rows measured again in "
        f"{found.wall_s:.0f} s: {verdict}",
        *_lines(found.diff, limit),
    ]
    lines += [f"  no usable number now: {label}: {why}" for label, why in found.unusable[:limit]]
    return "\n".join([*lines, *_rest(len(found.unusable), limit)])


def _lines(found: Diff, limit: int) -> list[str]:
    same = f", {found.same_measurement} of one measurement" if found.same_measurement else ""
    lines = [
        f"matched          {found.matched} rows, {len(found.rows)} with a usable number in both{same}; "
        f"{found.only_a} only in a, {found.only_b} only in b",
        *_environment_text(found),
        *map(_factor_text, found.factors),
    ]
    if not found.factors and found.rows:
        lines.append("common factor    not told apart: fewer than 8 rows of one pair of builds")
    lines += _agreement_text("difference", found.usable) + _agreement_text(
        "  converged", found.converged
    )
    if found.interval_holds is not None:
        lines.append(f"intervals        {found.interval_holds:.0%} of a's hold b's value")
    lines += _changes_text(found, limit) + _states_text(found, limit)
    for name, timelines in (("a", found.timelines_a), ("b", found.timelines_b)):
        for timeline in timelines:
            lines += _timeline_text(name, timeline)
    return lines


def _environment_text(found: Diff) -> list[str]:
    lines = []
    for pair in found.environments:
        if pair.differences:
            names = ", ".join(f"{name} {a!r} -> {b!r}" for name, a, b in pair.differences)
            lines.append(f"environments     {pair.a} -> {pair.b}: {names}")
        elif pair.a == pair.b:
            lines.append(f"environment      {pair.a}, the same")
    return lines


def _factor_text(factor: CommonFactor) -> str:
    text = (
        f"common factor    {_change(factor.ratio)} ({_change(factor.low)} to {_change(factor.high)}) "
        f"shared by {factor.rows} rows of builds {factor.build_a or 'unknown'} and "
        f"{factor.build_b or 'unknown'}"
    )
    sentinels = [("dense", factor.dense), ("memory", factor.memory)]
    told = [f"{name} sentinel {_change(ratio)}" for name, ratio in sentinels if ratio is not None]
    return "; ".join([text, *told])


def _agreement_text(name: str, agreement: Agreement | None) -> list[str]:
    if agreement is None:
        return [f"{name:<16} no such row in both tables"]
    return [
        f"{name:<16} {agreement.rows} rows: median {agreement.median:.2%}, 95th percentile "
        f"{agreement.p95:.2%}; without the common factor {agreement.own_median:.2%} and "
        f"{agreement.own_p95:.2%}"
    ]


def _changes_text(found: Diff, limit: int) -> list[str]:
    if not found.tested:
        return ["significant      not known: no row has an interval in both tables"]
    changed = found.significant
    lines = [
        f"significant      {len(changed)} of {found.tested} rows changed beyond the common factor and "
        f"their own noise, known from visits for {found.from_visits:.0%} of them"
    ]
    lines += [f"  {_row_text(row)}" for row in changed[:limit]]
    return [*lines, *_rest(len(changed), limit)]


def _row_text(row: RowDifference) -> str:
    low, high = (_change(end) for end in (row.own_low or 1.0, row.own_high or 1.0))
    times = f"{row.a_ms:.4g} -> {row.b_ms:.4g} ms"
    return f"{_change(row.own_ratio):>8} ({low} to {high})  {times}  {row.label}"


def _states_text(found: Diff, limit: int) -> list[str]:
    counts = [f"{rows} {a} -> {b}" for (a, b), rows in found.state_counts.items()]
    lines = [f"states           {', '.join(counts) or 'unchanged'}"]
    lines += [f"  {_failure_text(change)}" for change in found.failures[:limit]]
    return [*lines, *_rest(len(found.failures), limit)]


def _failure_text(change: StateChange) -> str:
    return f"{change.state_b}: {change.label}: {change.reason or 'no reason given'}"


def _timeline_text(name: str, timeline: Timeline) -> list[str]:
    lines = [
        f"timeline of {name}    build {timeline.build_id or 'unknown'}, {timeline.minutes:.1f} min from "
        f"{timeline.started_at:%Y-%m-%d %H:%M} UTC, {timeline.quiet} of {timeline.visits} visits with "
        "the CPU to themselves",
        f"  rows           {_series_text(timeline.rows)}",
    ]
    for sentinel, series in (("dense", timeline.dense), ("memory", timeline.memory)):
        if series is not None:
            explains = ""
            if series.explains is not None:
                explains = f"; explains {series.explains:.0%} of the rows' drift"
            lines.append(f"  {sentinel:<14} {_series_text(series)}{explains}")
    return lines


def _series_text(series: Series) -> str:
    if series.slope is None or series.slope_low is None or series.slope_high is None:
        trend = "too short for a trend"
    else:
        low, high = series.slope_low, series.slope_high
        trend = f"{series.slope:+.2%} in 10 minutes ({low:+.2%} to {high:+.2%})"
    if series.spread is not None:
        count = sum(window is not None for window in series.windows)
        trend += f", {series.spread:.2%} between the lowest and the highest of {count} windows"
    return trend + _speeds_text(series.speeds)


def _speeds_text(speeds: Speeds | None) -> str:
    if speeds is None:
        return ""
    return f"; two speeds, {speeds.gap:.1%} apart, {speeds.slow_share:.0%} of visits at the slower one"


def _rest(count: int, limit: int) -> list[str]:
    return [f"  {limit} of {count} shown; --limit {count} shows all"] if count > limit else []


def _change(ratio: float) -> str:
    return f"{ratio - 1:+.2%}"
