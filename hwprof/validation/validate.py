"""Validation: measure networks that no fit has seen and hold the table's predictions against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hwprof import __version__
from hwprof.build.progress import Progress
from hwprof.composition.composition import COLUMN_OF, Composition, composition_for
from hwprof.composition.price import Pricer
from hwprof.errors import LutError
from hwprof.lut import Lut, load_lut
from hwprof.lut.write import update_metadata
from hwprof.measure.messages import Job
from hwprof.validation.calibrate import (
    LEAST_NETWORKS,
    calibrate,
    check_count,
    failures,
    measure,
    priced_rows,
)
from hwprof.validation.measured import MeasuredNetwork, measured_networks
from hwprof.validation.networks import CALIBRATION, VALIDATION, draw
from hwprof.validation.scores import (
    Correlation,
    Errors,
    correlation,
    kendall,
    relative_errors,
    spearman,
    summarise_errors,
)
from hwprof.validation.setting import Wanted, find_setting, require_same_environment

FIT_NETWORKS = 20
NOT_ADDITIVE_ERROR = 0.03
"""Rows do not add up where the mean error is above this and above three times the noise floor."""


@dataclass(frozen=True)
class Network:
    """One held-out network.

    Attributes:
        blocks_ms: (op, what it adds to the prediction) in running order.
        border_ms: what the network's own borders add.
        spread: whether it is of the half that is spread over latency.
        disagreement: relative distance of its two measurements, None without both.
    """

    op_id: str
    label: str
    measured_ms: float
    predicted_ms: float
    raw_ms: float
    spread: bool
    disagreement: float | None
    blocks_ms: tuple[tuple[str, float], ...]
    border_ms: float

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_ms / self.measured_ms - 1.0


@dataclass(frozen=True)
class Report:
    """How good a table's predictions are.

    Attributes:
        calibrated_now: whether the table had no composition, so that it was calibrated first.
        raw, constant, flops: errors of the plain sum of rows, of the mean of the fit networks, and of a
            line through their FLOPs.
        noise_floor: mean disagreement of the networks' two measurements.
        additive: whether rows add up here at all.
        failed: label and reason of drawn networks without a usable number.
        measured_in: environment of the networks, where it is not the rows' own.
    """

    composition: Composition
    calibrated_now: bool
    networks: tuple[Network, ...]
    errors: Errors
    raw: Errors
    constant: Errors
    flops: Errors
    noise_floor: float | None
    spearman: Correlation
    kendall: Correlation
    additive: bool
    failed: tuple[tuple[str, str], ...]
    measured_in: str | None = None

    def summary(self) -> dict[str, Any]:
        """What stands in the table's metadata and in `--json`: shares and errors as fractions."""
        scope = self.composition.scope
        return {
            **asdict(scope),
            "measured_in": self.measured_in or scope.environment_id,
            "networks": len(self.networks),
            "mean_error": self.errors.mean,
            "median_error": self.errors.median,
            **{f"within_{bound * 100:g}": share for bound, share in self.errors.within.items()},
            "bias": self.errors.bias,
            "worst_error": self.errors.worst,
            "spearman": self.spearman.value,
            "spearman_interval": [self.spearman.low, self.spearman.high],
            "kendall": self.kendall.value,
            "kendall_interval": [self.kendall.low, self.kendall.high],
            "fit_networks": len(self.composition.networks),
            "model": self.composition.model,
            "coefficients": dict(self.composition.coefficients),
            "calibrated_now": self.calibrated_now,
            "raw_mean_error": self.raw.mean,
            "constant_mean_error": self.constant.mean,
            "flops_mean_error": self.flops.mean,
            "noise_floor": self.noise_floor,
            "additive": self.additive,
            "failed": [{"label": label, "reason": reason} for label, reason in self.failed],
        }


def validate(
    path: Path,
    wanted: Wanted,
    *,
    networks: int = 100,
    seed: int = 0,
    statistic: str = "floor",
    fit_networks: int = FIT_NETWORKS,
    measured_in: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure `networks` networks that the composition was not fitted on, where their rows are missing,
    and compare. An uncalibrated table is calibrated first, on further networks of another seed stream.
    These are measured in the same shuffled rounds, since a host's speed moves within minutes: 10 min
    between the two cost 0.3 % (`benchmarks/results/whole_network_onnxruntime_apart.json`). The networks'
    rows and the errors are stored in the table.

    Args:
        fit_networks: how many networks an uncalibrated table is calibrated on.
        measured_in: id of this machine's environment, to hold rows of another one against it.

    Raises:
        HwprofError: as `calibrate`; an unknown statistic; too few networks. The table keeps what was
            measured.
    """
    if statistic not in COLUMN_OF:
        raise LutError(f"statistic {statistic!r} is unknown; choose of {', '.join(COLUMN_OF)}")
    if networks < 2:
        raise LutError(f"networks must be 2 or more, got {networks}")
    setting = find_setting(path, wanted, statistic)
    require_same_environment(setting, measured_in)
    composition = composition_for(setting.table.metadata, setting.scope)
    calibrated_now = composition is None
    rows_ms = priced_rows(setting)
    to_fit: tuple[Job, ...] = ()
    if composition is None:
        check_count(fit_networks, LEAST_NETWORKS)
        fitted = draw(setting.space, rows_ms, fit_networks, seed, CALIBRATION)
        to_fit = tuple(network.job for network in fitted)
        seen = frozenset(job.job_id for job in to_fit)
    else:
        seen = frozenset(composition.networks)
    drawn = draw(setting.space, rows_ms, networks, seed, VALIDATION, without=seen)
    protocol = setting.build.protocol().for_networks()
    measure(setting, [*to_fit, *(network.job for network in drawn)], protocol, progress)
    if composition is None:
        calibrate(path, wanted, networks=fit_networks, seed=seed, progress=progress)
    table = load_lut(path)
    composition = composition or composition_for(table.metadata, setting.scope)
    assert composition is not None
    spread = {network.job.job_id: network.spread for network in drawn}
    chain = setting.space.family == "chain"
    report = compare(
        table, composition, spread, chain, calibrated_now, failures(table, drawn), measured_in
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
) -> Report:
    """Predictions against the measured rows of some networks.

    Args:
        spread: id of each network -> whether it is of the spread half.
        chain: whether networks of the space are chains.

    Raises:
        LutError: fewer than two of the networks have a number, or one was used for the fit.
    """
    scope = composition.scope
    if used := sorted(set(spread) & set(composition.networks)):
        raise LutError(f"network {used[0]} was used for the fit; an error on it would say nothing")
    truth = measured_networks(table, scope, spread, measured_in)
    if len(truth) < 2:
        raise LutError(f"{len(truth)} of {len(spread)} networks have a number; nothing to compare")
    fitted = measured_networks(table, scope, composition.networks)
    ops = list(dict.fromkeys(op for network in truth for op in network.ops))
    pricer = Pricer(table, scope, ops, composition, allow_unstable=True)
    plain = Pricer(table, scope, ops, None, allow_unstable=True)
    made = tuple(_predict(n, pricer, plain, spread[n.op_id], chain) for n in truth)
    measured = [network.measured_ms for network in made]
    tells = [network for network in made if network.spread]
    ranks = ([n.predicted_ms for n in tells], [n.measured_ms for n in tells])
    errors = summarise_errors(relative_errors([n.predicted_ms for n in made], measured))
    noise = [n.disagreement for n in made if n.disagreement is not None]
    noise_floor = float(np.mean(noise)) if noise else None
    return Report(
        composition=composition,
        calibrated_now=calibrated_now,
        networks=made,
        errors=errors,
        raw=summarise_errors(relative_errors([n.raw_ms for n in made], measured)),
        constant=summarise_errors(relative_errors([_mean_ms(fitted)] * len(made), measured)),
        flops=summarise_errors(relative_errors(_by_flops(fitted, truth), measured)),
        noise_floor=noise_floor,
        spearman=correlation(spearman, *ranks),
        kendall=correlation(kendall, *ranks),
        additive=errors.mean <= max(NOT_ADDITIVE_ERROR, 3 * (noise_floor or 0.0)),
        failed=failed,
        measured_in=measured_in,
    )


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
    weights = np.linalg.lstsq(columns / size, np.ones(len(fitted)), rcond=None)[0] / size
    return [float(weights[0] + weights[1] * network.flops) for network in wanted]


def _store(path: Path, table: Lut, report: Report) -> None:
    """Put the errors into the table's metadata, in place of older ones of the same scope."""
    scope = {
        **asdict(report.composition.scope),
        "measured_in": report.measured_in or report.composition.scope.environment_id,
    }
    kept = [entry for entry in table.metadata["validation"] or () if not _same_scope(entry, scope)]
    made = {
        **report.summary(),
        "ids": [network.op_id for network in report.networks],
        "spread_ids": [network.op_id for network in report.networks if network.spread],
        "validated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hwprof_version": __version__,
    }
    update_metadata(path, validation=[*kept, made])


def _same_scope(entry: Mapping[str, Any], scope: Mapping[str, Any]) -> bool:
    return all(entry.get(name) == value for name, value in scope.items())
