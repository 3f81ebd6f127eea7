"""What a validation found: the error of each held-out network, and all of them summed up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hwprof.composition.composition import Composition
from hwprof.validation.scores import Correlation, Errors

SHOWN_WORST = 3
NOT_ADDITIVE_ERROR = 0.03


def most_error(noise_floor: float | None) -> float:
    """The mean error up to which rows add up: 3 %, or three times the noise floor where that is more."""
    return max(NOT_ADDITIVE_ERROR, 3 * (noise_floor or 0.0))


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

    def summary(self) -> dict[str, Any]:
        """With what each of its blocks adds, in running order."""
        return {
            "op_id": self.op_id,
            "label": self.label,
            "measured_ms": self.measured_ms,
            "predicted_ms": self.predicted_ms,
            "error": self.error,
            "disagreement": self.disagreement,
            "blocks": [{"op": label, "ms": ms} for label, ms in self.blocks_ms],
            "border_ms": self.border_ms,
        }


@dataclass(frozen=True)
class Report:
    """How good a table's predictions are.

    Attributes:
        calibrated_now: whether the table had no composition, so that it was calibrated first.
        raw, constant, flops: errors of the plain sum of rows, of the mean of the fit networks, and of a
            line through their FLOPs.
        noise_floor: mean disagreement of the networks' two measurements.
        additive: whether the composition holds here.
        without_edges: where the composition uses edges, the error of the best model that was tried
            without them, each network of the fit left out in turn; of the plain sum where none was.
        chain: whether the networks are chains; only these have edges.
        unstable_rows: ops of the networks that are predicted from a row in state `unstable`.
        unstable_networks: networks whose own visits disagree, where these were allowed.
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
    without_edges: float | None = None
    chain: bool = True
    unstable_rows: int = 0
    unstable_networks: int = 0

    @property
    def edges_needed(self) -> bool:
        """Whether rows do not add up by themselves, and edges make up for it."""
        alone = self.without_edges
        return self.additive and alone is not None and alone > most_error(self.noise_floor)

    @property
    def worst(self) -> list[Network]:
        """The networks with the largest errors."""
        return sorted(self.networks, key=lambda network: -abs(network.error))[:SHOWN_WORST]

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
            "without_edges_mean_error": self.without_edges,
            "unstable_rows": self.unstable_rows,
            "unstable_networks": self.unstable_networks,
            "worst": [network.summary() for network in self.worst],
            "failed": [{"label": label, "reason": reason} for label, reason in self.failed],
        }
