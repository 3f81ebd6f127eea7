"""`hwprof fit-predictor`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.validation import seed_option

if TYPE_CHECKING:
    from hwprof.prediction import Predictor
    from hwprof.prediction.scores import Scores

MAX_POINTS_BYTES = 256 << 20


@click.command("fit-predictor")
@click.argument("path", metavar="TABLE")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--space", help="Space of the networks, by name or YAML file; default: the rows' own.")
@click.option("--metric", default="latency_ms", show_default=True, help="Column to predict.")
@click.option(
    "--members",
    help="Which of composition, additive, pairwise, priced, regressor, boosted to try, with commas; "
    "default: all that can be fitted.",
)
@click.option("--networks", type=int, help="Fit on so many; the rest tests the predictor. Default: all.")
@seed_option("Of folds, of --networks, of the regressors.")
@click.option("--level", default=0.9, show_default=True, help="Share of truths that the intervals hold.")
@click.option("--environment", help="Environment id of the networks, where the table has several.")
@click.option(
    "--points",
    type=click.Path(path_type=Path),
    help="JSON object of op_id -> choice indices, for networks whose rows do not tell their point.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def fit_predictor(
    path: str, out: Path, space: str | None, metric: str, members: str | None, networks: int | None,
    seed: int, level: float, environment: str | None, points: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Fit a predictor on the measured networks of TABLE, judged on networks that it has not seen.

    \b
    Example:
      hwprof validate lut.parquet --networks 100
      hwprof fit-predictor lut.parquet --out p/
      hwprof fit-predictor lut.parquet --out p/ --members additive,pairwise --metric energy_mj --json
    """
    from hwprof.lut import load_lut
    from hwprof.prediction import fit_predictor as fit
    from hwprof.prediction import save_predictor
    from hwprof.prediction.storage import check_folder

    check_folder(out)
    names = [name.strip() for name in members.split(",")] if members is not None else []
    fitted = fit(
        load_lut(path), space, metric=metric, members=names, networks=networks, seed=seed, level=level,
        environment=environment, points=None if points is None else _points(points),
        progress=lambda name: click.echo(f"fitting {name}", err=True),
    )  # fmt: skip
    save_predictor(fitted, out)
    summary = {**fitted.summary(), "out": str(out)}
    click.echo(json.dumps(summary) if as_json else _text(path, out, fitted))


def _points(path: Path) -> Mapping[str, tuple[int, ...]]:
    from hwprof.prediction.errors import PredictionError

    wrong = PredictionError(
        f"{path} is no JSON object of op_id -> list of choice indices, of up to "
        f"{MAX_POINTS_BYTES >> 20} MiB"
    )
    try:
        if path.stat().st_size > MAX_POINTS_BYTES:
            raise wrong
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise PredictionError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise wrong from None
    if not isinstance(data, dict):
        raise wrong
    for point in data.values():
        if not isinstance(point, list) or not all(type(index) is int for index in point):
            raise wrong
    return {op_id: tuple(point) for op_id, point in data.items()}


def _text(path: str, out: Path, fitted: Predictor) -> str:
    origin, interval = fitted.origin, fitted.interval
    where = f" of {origin.environment_id}" if origin.environment_id else ""
    lines = [
        f"{path}: {origin.metric} of {fitted.encoding.space}, fitted on {origin.networks} networks"
        f"{where}"
    ]
    for one in fitted.tried:
        mark = "*" if one.member == fitted.member.name else " "
        if one.scores is None:
            lines.append(f"  {mark} {one.member:11}  left out: {one.skipped}")
            continue
        gap = "no gradient" if one.relaxation_gap is None else f"relaxation gap {one.relaxation_gap:.2%}"
        lines.append(f"  {mark} {one.member:11}  {_scores(one.scores)}, {gap}")
    how: Any = fitted.member.facts().get("how")
    lines += [
        f"  chosen       {fitted.member.name}{f' ({how})' if how else ''}, by error on networks that a "
        "fit has not seen",
        f"  interval     each value / {interval.factor:.3f} to x {interval.factor:.3f}, made to hold "
        f"{interval.level:.0%} of truths; held {interval.coverage:.1%} on folds it was not made from",
    ]
    if origin.noise_floor is not None:
        lines.append(f"  noise floor  {origin.noise_floor:.2%} between two measurements of one network")
    if fitted.test is not None:
        lines.append(
            f"  test         {_scores(fitted.test)}; {fitted.test.coverage:.1%} inside the interval, "
            f"{fitted.test.networks} networks that nothing was fitted on"
        )
    return "\n".join([*lines, f"  kept in      {out}"])


def _scores(scores: Scores) -> str:
    within = ", ".join(f"{share:.0%} within {bound} %" for bound, share in scores.within.items())
    rank = "not defined" if scores.spearman is None else f"{scores.spearman:.4f}"
    return f"mean error {scores.mean:.2%}, median {scores.median:.2%}, {within}, Spearman {rank}"
