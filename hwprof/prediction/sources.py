"""Sources: known devices, from tables with measured networks or rows and from predictors' folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwprof.lut import Lut, load_lut
from hwprof.prediction.device_prior import (
    LEAST_SOURCE_NETWORKS,
    Source,
    source_of_networks,
    source_of_predictor,
    source_of_values,
)
from hwprof.prediction.encoding import Encoding
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.features import Features
from hwprof.prediction.knowledge import SUMMED, knowledge_of
from hwprof.prediction.measured import read_measured
from hwprof.prediction.storage import load_predictor
from hwprof.space import Space


def read_sources(
    paths: Sequence[Path],
    features: Features,
    space: Space,
    *,
    metric: str = "latency_ms",
    cache: str = "warm",
    target_environment: str | None = None,
) -> list[Source]:
    """Every device of these tables and predictors. A table's environments are a device each, known by
    their networks where they have 20 of them or more, else by their rows where these price the space.

    Args:
        space: of the target.
        target_environment: no device of its own; where a source is the target's table it is left out.

    Raises:
        PredictionError: a source of another space, one without enough to know it by, or one twice; a
            predictor of the target itself or of another metric.
        HwprofError: as `load_lut` and `load_predictor`.
    """
    found: dict[str, Source] = {}
    for path in paths:
        made = (
            [_of_folder(path, features, metric, target_environment)]
            if path.is_dir()
            else _of_table(load_lut(path), features, space, metric, cache, target_environment)
        )
        for source in made:
            if source.name in found:
                raise PredictionError(f"source {source.name} is given twice; leave one out")
            found[source.name] = source
    return list(found.values())


def rows_source(
    table: Lut, features: Features, space: Space, environment: str, metric: str, cache: str
) -> Source | None:
    """A device by the sum of its rows; None where they do not price every choice."""
    if metric not in SUMMED:
        return None
    knowledge = knowledge_of(space, table, metric=metric, environment=environment, cache=cache)
    if knowledge.rows is None:
        return None
    terms = knowledge.rows.of_networks(features.pool)
    values = terms[:, knowledge.rows.names.index("rows")]
    return source_of_values(features, f"{table.path.name} {environment[:12]} rows", values)


def _of_folder(path: Path, features: Features, metric: str, without: str | None) -> Source:
    predictor = load_predictor(path)
    if predictor.metric != metric:
        raise PredictionError(
            f"source {path} predicts {predictor.metric}, not {metric}; give predictors of {metric}, or "
            f"--metric {predictor.metric}"
        )
    environment = predictor.origin.environment_id
    # A predictor that knows the target's networks would be counted as right about them.
    if environment and environment == without:
        raise PredictionError(
            f"source {path} was fitted on the target's own networks ({environment}); give predictors "
            "of other devices"
        )
    return source_of_predictor(features, str(path), predictor)


def _of_table(
    table: Lut, features: Features, space: Space, metric: str, cache: str, without: str | None
) -> list[Source]:
    columns = ["environment_id", "space"]
    kinds = table.columns(columns).group_by(columns).aggregate([]).to_pylist()
    of_space = {kind["environment_id"] for kind in kinds if kind["space"] == space.name}
    if not of_space:
        spaces = ", ".join(sorted({str(kind["space"]) for kind in kinds}))
        raise PredictionError(
            f"source {table.path} has no rows of space {space.name}, it has {spaces}; give tables "
            "of the target's space"
        )
    environments = sorted(of_space - {without})
    if not environments:
        raise PredictionError(
            f"source {table.path} has no rows but the target's own ({without}); give tables of "
            "other devices"
        )
    return [_of_environment(table, features, space, each, metric, cache) for each in environments]


def _of_environment(
    table: Lut, features: Features, space: Space, environment: str, metric: str, cache: str
) -> Source:
    name = f"{table.path.name} {environment[:12]}"
    why = ""
    try:
        measured = read_measured(table, space, metric=metric, environment=environment, cache=cache)
        _require_same(name, Encoding.of(measured.space), features.encoding)
        if len(measured.values) >= LEAST_SOURCE_NETWORKS:
            one_hot = features.encoding.one_hot(measured.points)
            return source_of_networks(features, name, one_hot, measured.values)
        why = f"{len(measured.values)} measured networks, {LEAST_SOURCE_NETWORKS} is the least"
    except PredictionError as error:
        why = str(error)
    found = rows_source(table, features, space, environment, metric, cache)
    if found is None:
        raise PredictionError(
            f"source {name} is known neither by its networks ({why}) nor by rows that price every "
            f"choice of {space.name}; measure more there: hwprof validate {table.path} --networks 100"
        )
    return found


def _require_same(name: str, theirs: Encoding, ours: Encoding) -> None:
    if (theirs.positions, theirs.choices) != (ours.positions, ours.choices):
        raise PredictionError(
            f"source {name} has a space {theirs.space} of other choices than the target"
        )
