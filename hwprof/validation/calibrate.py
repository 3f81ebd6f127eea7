"""Calibration: measure some networks, fit every model on them, keep the best one in the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwprof import __version__
from hwprof.build import build_lut, plan_of
from hwprof.build.pipeline import BuildReport
from hwprof.build.progress import Progress
from hwprof.composition.composition import COLUMN_OF, Composition, Scope, compositions
from hwprof.composition.edges import edge_keys, edge_latencies_ms, edge_pairs
from hwprof.composition.models import MODELS, Fit, Model, choose, fit
from hwprof.composition.terms import network_terms
from hwprof.errors import BuildError, LutError, MissingRow
from hwprof.lut import Lut, load_lut
from hwprof.lut.write import update_metadata
from hwprof.measure.messages import Job
from hwprof.measure.protocol import Protocol
from hwprof.ops import OpSpec
from hwprof.validation.measured import MeasuredNetwork, measured_networks
from hwprof.validation.networks import CALIBRATION, Drawn, draw
from hwprof.validation.setting import Setting, Wanted, find_setting, require_same_environment

LEAST_NETWORKS = 4


@dataclass(frozen=True)
class Calibration:
    """What a calibration did: a composition for each statistic, and the measuring behind it.

    Attributes:
        failed: label and reason of networks without a usable number.
    """

    compositions: tuple[Composition, ...]
    networks: int
    pairs: int
    failed: tuple[tuple[str, str], ...]
    wall_s: float

    def summary(self) -> dict[str, Any]:
        return {
            "networks": self.networks,
            "pairs": self.pairs,
            "failed": [{"label": label, "reason": reason} for label, reason in self.failed],
            "wall_s": self.wall_s,
            "compositions": [c.to_dict() for c in self.compositions],
        }


def calibrate(
    path: Path,
    wanted: Wanted,
    *,
    networks: int = 20,
    seed: int = 0,
    model: str = "auto",
    edges: bool = False,
    progress: Progress | None = None,
) -> Calibration:
    """Measure `networks` networks of the table's space where their rows are missing, fit, and store the
    composition in the table. Networks that are in the table already are not measured again.

    Args:
        model: a name of `MODELS`, or `auto` for the best by leaving one out.
        edges: measure a pair of neighbours for each edge of the space too.

    Raises:
        HwprofError: as `find_setting`, `require_same_environment` and `build_lut`; also too few networks
            for the model. The table keeps what was measured and its composition stays as it was.
    """
    if model != "auto" and model not in MODELS:
        raise LutError(f"model {model!r} is unknown; choose of auto, {', '.join(MODELS)}")
    check_count(networks, 1 + MODELS[model].parameters if model != "auto" else LEAST_NETWORKS)
    setting = find_setting(path, wanted)
    require_same_environment(setting)
    rows_ms = priced_rows(setting)
    drawn = draw(setting.space, rows_ms, networks, seed, CALIBRATION)
    networks_protocol = setting.build.protocol().for_networks()
    wall_s = measure(setting, [network.job for network in drawn], networks_protocol, progress)
    pairs: list[Job] = []
    if edges or (model != "auto" and "edges" in MODELS[model].terms):
        if setting.space.family != "chain":
            raise LutError(f"{setting.space.name} is no chain: its networks have no edges to measure")
        pairs = [Job(pair, "pair") for pair in edge_pairs(setting.space, rows_ms)]
        wall_s += measure(setting, pairs, setting.build.protocol(), progress)
    table = load_lut(path)
    made = [
        compose(table, replace(setting.scope, statistic=statistic), drawn, model)
        for statistic in COLUMN_OF
    ]
    store(path, table, made)
    return Calibration(tuple(made), len(drawn), len(pairs), failures(table, drawn), wall_s)


def compose(table: Lut, scope: Scope, drawn: Sequence[Drawn], model: str) -> Composition:
    """Fit the model, or all that the table has the rows for, on the drawn networks.

    Raises:
        LutError: too few of the networks have a number.
    """
    networks = measured_networks(table, scope, [network.job.job_id for network in drawn])
    check_count(len(networks), LEAST_NETWORKS)
    fits = fit_models(table, scope, networks, [MODELS[model]] if model != "auto" else [*MODELS.values()])
    best = choose([each for each in fits if model != "auto" or each.model.name != "sum"])
    return Composition(
        scope=scope,
        model=best.model.name,
        coefficients=best.coefficients,
        networks=tuple(network.op_id for network in networks),
        error=best.error,
        sigma=best.sigma,
        compared={each.model.name: each.error for each in fits},
        fitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        hwprof_version=__version__,
    )


def fit_models(
    table: Lut, scope: Scope, networks: Sequence[MeasuredNetwork], models: Iterable[Model]
) -> list[Fit]:
    """A fit of each model that these networks suffice for; of a single model, or an error.

    Raises:
        LutError: the only model asked for has as many weights as there are networks.
        MissingRow: it uses edges, and the table lacks some.
    """
    models = list(models)
    ops = list(dict.fromkeys(op for network in networks for op in network.ops))
    values = table.latencies_ms(
        ops, scope.column, environment=scope.environment_id, cache=scope.cache, allow_unstable=True
    )
    rows_ms = dict(zip(ops, values.tolist(), strict=True))
    terms = [network_terms(n.ops, [rows_ms[op] for op in n.ops]) for n in networks]
    edges = edge_latencies_ms(
        table,
        environment=scope.environment_id,
        cache=scope.cache,
        column=scope.column,
    )
    keys = [edge_keys(network.ops) for network in networks]
    complete = all(key in edges for each in keys for key in each)
    if complete:
        terms = [
            {**t, "edges": sum(edges[k] for k in each)} for t, each in zip(terms, keys, strict=True)
        ]
    fits = []
    for model in models:
        if "edges" in model.terms and not complete:
            if len(models) == 1:
                raise MissingRow(f"model {model.name} needs edges, and {table.path} lacks some: --edges")
            continue
        if len(models) > 1 and len(networks) <= 2 * model.parameters:
            continue
        fits.append(fit(model, terms, [network.latency_ms for network in networks]))
    return fits


def priced_rows(setting: Setting) -> dict[OpSpec, float]:
    """Floor of every op of the space.

    Raises:
        MissingRow: the space no longer matches its table: ops without a row.
    """
    ops = setting.space.ops()
    scope = setting.scope
    values = setting.table.latencies_ms(
        ops, environment=scope.environment_id, cache=scope.cache, allow_unstable=True
    )
    return dict(zip(ops, values.tolist(), strict=True))


def measure(
    setting: Setting, jobs: Sequence[Job], protocol: Protocol, progress: Progress | None
) -> float:
    """Rows for these jobs in the setting's table; the seconds that it took.

    Raises:
        HwprofError: as `build_lut`.
        BuildError: it was interrupted; the same command goes on.
    """
    report: BuildReport = build_lut(
        setting.build, progress, planner=plan_of(setting.space, jobs, protocol)
    )
    if report.interrupted:
        raise BuildError("interrupted: what was measured is kept; give the same command to go on")
    return report.wall_s


def failures(table: Lut, drawn: Sequence[Drawn]) -> tuple[tuple[str, str], ...]:
    """Label and reason of the drawn networks whose row is not usable."""
    wanted: Set[str] = {network.job.job_id for network in drawn}
    rows = table.filter(granularity="network")
    pairs = zip(
        rows.columns(["op_id", "label", "state", "reason"]).to_pylist(), rows.usable(), strict=True
    )
    return tuple(
        (row["label"], f"{row['state']}: {row['reason']}")
        for row, usable in pairs
        if not usable and row["op_id"] in wanted
    )


def store(path: Path, table: Lut, made: Sequence[Composition]) -> None:
    """Put compositions into the table's metadata, in place of older ones of the same scope.

    Raises:
        LutError: the table cannot be written; it stays as it was.
    """
    scopes = {composition.scope for composition in made}
    kept = [c for c in compositions(table.metadata) if c.scope not in scopes]
    update_metadata(path, composition=[c.to_dict() for c in (*kept, *made)])


def check_count(networks: int, least: int) -> None:
    """Raises LutError for too few networks to fit on."""
    if networks < least:
        raise LutError(
            f"{networks} networks are too few to calibrate with, {least} is the least; give "
            "--networks 20 or more"
        )
