"""Transfer with measuring: from sources and a new device's table to its predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwprof.build.progress import Progress
from hwprof.lut import load_lut
from hwprof.prediction.device_prior import DevicePrior, device_prior
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.features import Features
from hwprof.prediction.measured import Measured, read_measured
from hwprof.prediction.predictor import Origin
from hwprof.prediction.sources import read_sources, rows_source
from hwprof.prediction.transfer import Transfer, first_references, fit_transfer, next_points
from hwprof.sampling.measuring import Points, measure_points
from hwprof.space import Space
from hwprof.validation.setting import Wanted, find_setting


@dataclass(frozen=True)
class _Target:
    """The new device: the kind of rows of its table that is meant."""

    space: Space
    environment_id: str
    cache: str


def transfer(
    sources: Sequence[Path],
    table: Path,
    wanted: Wanted,
    *,
    metric: str = "latency_ms",
    level: float = 0.9,
    seed: int = 0,
    measured: int = 0,
    progress: Progress | None = None,
) -> Transfer:
    """A predictor of the device of `table` from its measured networks and the sources.

    Where its rows price the whole space they are one more source.

    Args:
        measured: first measure so many further networks on this machine, those that tell the most.

    Raises:
        PredictionError: fewer than 3 networks in the end, a constant metric, a source of another space.
        Interrupted: by SIGINT; what was measured is kept.
        HwprofError: as `find_setting`, `read_sources` and `measure_points`.
    """
    target = _target(table, wanted, metric)
    features = Features.of(target.space, seed=seed)
    known = read_sources(
        sources, features, target.space,
        metric=metric, cache=target.cache, target_environment=target.environment_id,
    )  # fmt: skip
    own = rows_source(
        load_lut(table), features, target.space, target.environment_id, metric, target.cache
    )
    prior = device_prior(features, known if own is None else [*known, own])
    points: Points = {}
    if measured:
        points = measure_points(
            table, wanted, _telling(prior, table, target, metric, measured), progress=progress
        )
    found = _networks(table, target, metric, points)
    origin = Origin(
        metric=metric,
        unit=found.unit,
        networks=len(found.values),
        noise_floor=found.noise_floor,
        table_hash=load_lut(table).metadata["content_hash"],
        environment_id=found.environment_id,
    )
    return fit_transfer(prior, found.points, found.values, origin=origin, level=level, seed=seed)


def _target(table: Path, wanted: Wanted, metric: str) -> _Target:
    """By its op rows; of a table of networks alone, by these."""
    found = load_lut(table)
    if found.filter(granularity="op").table.num_rows:
        setting = find_setting(table, wanted)
        return _Target(setting.space, setting.scope.environment_id, setting.scope.cache)
    cache = wanted.cache or "warm"
    measured = read_measured(
        found, wanted.space, metric=metric, environment=wanted.environment_id, cache=cache
    )
    return _Target(measured.space, measured.environment_id, cache)


def _telling(
    prior: DevicePrior, table: Path, target: _Target, metric: str, count: int
) -> tuple[tuple[int, ...], ...]:
    if not _has_networks(table, target):
        return first_references(prior, count)
    there = _networks(table, target, metric, {})
    return next_points(prior, there.points, count)


def _networks(table: Path, target: _Target, metric: str, points: Points) -> Measured:
    if not _has_networks(table, target):
        raise PredictionError(
            f"{table} has no measured networks of {target.space.name}; measure those that tell the "
            "most: hwprof transfer ... --measure 10"
        )
    return read_measured(
        load_lut(table), target.space, metric=metric, environment=target.environment_id,
        cache=target.cache, points=points,
    )  # fmt: skip


def _has_networks(table: Path, target: _Target) -> bool:
    rows = load_lut(table).filter(
        granularity="network", environment_id=target.environment_id, cache=target.cache,
        space=target.space.name,
    )  # fmt: skip
    return bool(rows.usable().any())
