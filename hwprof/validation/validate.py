"""Validation: measure networks that no fit has seen and hold the table's predictions against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hwprof import __version__
from hwprof.build.progress import Progress
from hwprof.composition.composition import COLUMN_OF, Composition, composition_for
from hwprof.composition.models import MODELS
from hwprof.composition.price import Pricer
from hwprof.errors import LutError
from hwprof.lut import Lut, load_lut
from hwprof.lut.write import update_metadata
from hwprof.validation.calibrate import (
    LEAST_NETWORKS,
    check_count,
    failures,
    fit_drawn,
    measure,
    priced_rows,
    too_few_usable,
    unstable_rows,
)
from hwprof.validation.early_end import OldTable
from hwprof.validation.measured import MeasuredNetwork, measured_networks
from hwprof.validation.networks import CALIBRATION, VALIDATION, Drawn, draw
from hwprof.validation.report import Network, Report, most_error
from hwprof.validation.scores import (
    correlation,
    kendall,
    relative_errors,
    spearman,
    summarise_errors,
)
from hwprof.validation.setting import Wanted, find_setting, require_same_environment

FIT_NETWORKS = 20


def validate(
    path: Path,
    wanted: Wanted,
    *,
    networks: int = 100,
    seed: int = 0,
    statistic: str = "floor",
    fit_networks: int = FIT_NETWORKS,
    measured_in: str | None = None,
    allow_unstable: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Measure `networks` networks that the composition was not fitted on, where their rows are missing,
    and compare. An uncalibrated table is calibrated first, on further networks of another seed stream.
    All are measured in the same shuffled rounds, since a host's speed moves within minutes: 10 min
    between the two cost 0.3 % (`benchmarks/results/whole_network_onnxruntime_apart.json`). The networks'
    rows and the errors are stored in the table.

    Args:
        fit_networks: how many networks an uncalibrated table is calibrated on.
        measured_in: id of this machine's environment, to hold rows of another one against it.
        allow_unstable: held-out networks whose visits disagree count too; the noise floor then has
            their disagreement in it. The fit is on all, as `calibrate`'s.

    Raises:
        Interrupted: by SIGINT; what was measured is kept, and the same command goes on.
        LutError: an unknown statistic; too few networks, or too few that the backend could measure;
            `measured_in` for rows that are uncalibrated. The table is as it was.
        HwprofError: as `calibrate`.
    """
    if statistic not in COLUMN_OF:
        raise LutError(f"statistic {statistic!r} is unknown; choose of {', '.join(COLUMN_OF)}")
    if networks < 2:
        raise LutError(f"networks must be 2 or more, got {networks}; give --networks 100 or so")
    setting = find_setting(path, wanted, statistic)
    require_same_environment(setting, measured_in)
    where = measured_in or setting.scope.environment_id
    composition = composition_for(setting.table.metadata, setting.scope)
    calibrated_now = composition is None
    rows_ms = priced_rows(setting)
    to_fit: tuple[Drawn, ...] = ()
    if composition is None:
        if where != setting.scope.environment_id:
            raise LutError(
                f"{path} is uncalibrated, and a composition is fitted where its rows were measured; run "
                "hwprof calibrate there first"
            )
        check_count(fit_networks, LEAST_NETWORKS)
        to_fit = draw(setting.space, rows_ms, fit_networks, seed, CALIBRATION)
        seen = frozenset(network.job.job_id for network in to_fit)
    else:
        _fitted(setting.table, composition)
        seen = frozenset(composition.networks)
    drawn = draw(setting.space, rows_ms, networks, seed, VALIDATION, without=seen)
    protocol = setting.build.protocol().for_networks()
    with OldTable(path) as old:
        measure(setting, [network.job for network in (*to_fit, *drawn)], protocol, progress)
        with old.back_on_error():
            if composition is None:
                fit_drawn(setting, to_fit)
            table = load_lut(path)
            composition = composition or composition_for(table.metadata, setting.scope)
            assert composition is not None
            spread = {network.job.job_id: network.spread for network in drawn}
            chain = setting.space.family == "chain"
            failed = failures(table, drawn, where, setting.scope.cache, allow_unstable=allow_unstable)
            report = compare(
                table, composition, spread, chain, calibrated_now, failed, where, allow_unstable
            )
            _store(path, table, report)
    return report


def compare(
    table: Lut,
    composition: Composition,
    spread: Mapping[str, bool],
    chain: bool,
    calibrated_now: bool = False,
    failed: tuple[tuple[str, str], ...] = (),
    measured_in: str | None = None,
    allow_unstable: bool = False,
) -> Report:
    """Predictions against the measured rows of some networks.

    Args:
        spread: id of each network -> whether it is of the spread half.
        chain: whether networks of the space are chains.
        allow_unstable: networks whose visits disagree count too.

    Raises:
        LutError: fewer than two of the networks have a number, one was used for the fit, or none of
            those of the fit is in the table.
    """
    scope = composition.scope
    if used := sorted(set(spread) & set(composition.networks)):
        raise LutError(f"network {used[0]} was used for the fit; an error on it would say nothing")
    truth = measured_networks(table, scope, spread, measured_in, allow_unstable=allow_unstable)
    if len(truth) < 2:
        raise too_few_usable(len(truth), len(spread), failed, 2)
    fitted = _fitted(table, composition)
    ops = list(dict.fromkeys(op for network in truth for op in network.ops))
    pricer = Pricer(table, scope, ops, composition, allow_unstable=True)
    plain = Pricer(table, scope, ops, None, allow_unstable=True)
    made = tuple(_predict(n, pricer, plain, spread[n.op_id], chain) for n in truth)
    measured = [network.measured_ms for network in made]
    tells = [network for network in made if network.spread]
    ranks = ([n.predicted_ms for n in tells], [n.measured_ms for n in tells])
    errors = summarise_errors(relative_errors([n.predicted_ms for n in made], measured))
    raw = summarise_errors(relative_errors([n.raw_ms for n in made], measured))
    noise = [n.disagreement for n in made if n.disagreement is not None]
    noise_floor = float(np.mean(noise)) if noise else None
    return Report(
        composition=composition,
        calibrated_now=calibrated_now,
        networks=made,
        errors=errors,
        raw=raw,
        constant=summarise_errors(relative_errors([_mean_ms(fitted)] * len(made), measured)),
        flops=summarise_errors(relative_errors(_by_flops(fitted, truth), measured)),
        noise_floor=noise_floor,
        spearman=correlation(spearman, *ranks),
        kendall=correlation(kendall, *ranks),
        additive=errors.mean <= most_error(noise_floor),
        failed=failed,
        measured_in=None if measured_in == scope.environment_id else measured_in,
        without_edges=without_edges(composition, raw.mean),
        chain=chain,
        unstable_rows=unstable_rows(table, scope, ops),
        unstable_networks=sum(network.state == "unstable" for network in truth),
    )


def without_edges(composition: Composition, sum_error: float) -> float | None:
    """Error of the best model without edges that was compared with one that has them; of the plain sum
    where none was. None for a composition without edges."""
    if not composition.uses_edges:
        return None
    tried = composition.compared.items()
    alone = [error for name, error in tried if name in MODELS and "edges" not in MODELS[name].terms]
    return min(alone, default=sum_error)


def _fitted(table: Lut, composition: Composition) -> list[MeasuredNetwork]:
    """The networks of the fit. Raises LutError where the table has none of them."""
    found = measured_networks(table, composition.scope, composition.networks, allow_unstable=True)
    if not found:
        raise LutError(
            f"{table.path} has no row of the {len(composition.networks)} networks that its composition "
            f"was fitted on; calibrate it again: hwprof calibrate {table.path}"
        )
    return found


def _predict(
    network: MeasuredNetwork, pricer: Pricer, plain: Pricer, spread: bool, chain: bool
) -> Network:
    priced = pricer.price(network.ops, chain=chain)
    labels = (op.label for op in network.ops)
    return Network(
        op_id=network.op_id,
        label=network.label,
        measured_ms=network.latency_ms,
        predicted_ms=priced.latency_ms,
        raw_ms=plain.price(network.ops, chain=chain).latency_ms,
        spread=spread,
        disagreement=network.disagreement,
        blocks_ms=tuple(zip(labels, priced.ops_ms, strict=True)),
        border_ms=priced.border_ms,
    )


def _mean_ms(fitted: Sequence[MeasuredNetwork]) -> float:
    return float(np.mean([network.latency_ms for network in fitted]))


def _by_flops(fitted: Sequence[MeasuredNetwork], wanted: Sequence[MeasuredNetwork]) -> list[float]:
    """A line through the fit networks' FLOPs, with the least relative errors."""
    truth = np.array([network.latency_ms for network in fitted])
    columns = np.array([[1.0, network.flops] for network in fitted]) / truth[:, None]
    size = np.abs(columns).max(axis=0)
    size[size == 0.0] = 1.0  # of networks without FLOPs: a division of 0 by 0 makes LAPACK print
    weights = np.linalg.lstsq(columns / size, np.ones(len(fitted)), rcond=None)[0] / size
    return [float(weights[0] + weights[1] * network.flops) for network in wanted]


def _store(path: Path, table: Lut, report: Report) -> None:
    """Put the errors into the table's metadata, in place of older ones of the same scope."""
    scope = {
        **asdict(report.composition.scope),
        "measured_in": report.measured_in or report.composition.scope.environment_id,
    }
    kept = [entry for entry in table.metadata["validation"] or () if not _same_scope(entry, scope)]
    summary = report.summary()
    del summary["worst"]  # the rows of these networks tell
    made = {
        **summary,
        "ids": [network.op_id for network in report.networks],
        "spread_ids": [network.op_id for network in report.networks if network.spread],
        "validated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hwprof_version": __version__,
    }
    update_metadata(path, validation=[*kept, made])


def _same_scope(entry: Mapping[str, Any], scope: Mapping[str, Any]) -> bool:
    return all(entry.get(name) == value for name, value in scope.items())
