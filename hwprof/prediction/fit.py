"""Fit a predictor on the measured networks of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hwprof.lut import Lut
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.family import fit_family
from hwprof.prediction.knowledge import knowledge_of
from hwprof.prediction.measured import read_measured
from hwprof.prediction.predictor import Origin, Predictor
from hwprof.space import Space


def fit_predictor(
    table: Lut,
    space: Space | str | None = None,
    *,
    metric: str = "latency_ms",
    members: Sequence[str] = (),
    networks: int | None = None,
    seed: int = 0,
    level: float = 0.9,
    environment: str | None = None,
    cache: str = "warm",
    points: Mapping[str, Sequence[int]] | None = None,
    progress: Callable[[str], object] = lambda name: None,
) -> Predictor:
    """
    Args:
        space, metric, environment, cache, points: as of `read_measured`.
        members: of the family; empty for all that can be fitted.
        networks: how many to fit on, drawn by `seed`; the rest only tests the predictor. None: all.
        level: share of truths that the intervals hold.
        progress: told each member before it is fitted.

    Raises:
        PredictionError: as `read_measured` and `fit_family`; or more networks are asked for than there
            are.
    """
    measured = read_measured(
        table, space, metric=metric, environment=environment, cache=cache, points=points
    )
    knowledge = knowledge_of(
        measured.space, table, metric=metric, environment=measured.environment_id, cache=cache
    )
    count = len(measured.values)
    wanted = count if networks is None else networks
    if not 1 <= wanted <= count:
        raise PredictionError(f"{table.path} has {count} such networks; --networks is 1 to {count}")
    order = np.random.default_rng([seed, 0]).permutation(count)
    some, rest = order[:wanted], order[wanted:]
    test: tuple[ArrayLike, ArrayLike] | None = None
    if len(rest):
        test = measured.points[rest], measured.values[rest]
    origin = Origin(
        metric=metric,
        unit=measured.unit,
        networks=wanted,
        noise_floor=measured.noise_floor,
        table_hash=table.metadata["content_hash"],
        environment_id=measured.environment_id,
    )
    return fit_family(
        knowledge, measured.points[some], measured.values[some],
        metric=metric, origin=origin, members=members, seed=seed, level=level, test=test,
        progress=progress,
    )  # fmt: skip
