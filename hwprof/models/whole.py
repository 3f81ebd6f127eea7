"""From the sum of a model's units to its latency: fitted on the networks that a table holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwprof.composition.models import Model, choose, fit
from hwprof.composition.terms import MIB

LEAST_NETWORKS = 6
UNLIKE_SD = 0.05
"""Relative error that all units of a network share beside what the fit tells: the host changes its speed
by 3 % between builds (docs/measurement.md), and the network is unlike those that were fitted."""
MODELS = (
    Model("sum", ("rows",), "sum of the units", fitted=False),
    Model("scale", ("rows",), "the sum times one fitted factor"),
    Model("weights", ("rows", "weight_mib"), "the sum, and bytes of weights, a fitted weight each"),
)


@dataclass(frozen=True)
class WholeModel:
    """What a network costs beside the sum of its units.

    Attributes:
        coefficients: of `rows` (the sum) and `weight_mib`, weights that are further away in a network
            than in their rows.
        networks: how many it was fitted on; 0: the plain sum.
        error: mean relative error over them, each predicted without itself; None without any.
        sd: relative standard deviation that all units of a network share: that of the fit's networks,
            and `UNLIKE_SD`.
    """

    name: str
    coefficients: Mapping[str, float]
    networks: int
    error: float | None
    sd: float

    def latency_ms(self, sum_ms: float, weight_bytes: float) -> float:
        terms = {"rows": sum_ms, "weight_mib": weight_bytes / MIB}
        return sum(weight * terms[name] for name, weight in self.coefficients.items())


def fit_whole(
    sums_ms: Sequence[float], weight_bytes: Sequence[float], measured_ms: Sequence[float]
) -> WholeModel:
    """The simplest of `MODELS` whose error is about the best one's, each network left out once. A fit
    in which weights cost less than nothing has followed the noise, and is left out."""
    if len(sums_ms) < LEAST_NETWORKS:
        return WholeModel("sum", {"rows": 1.0}, 0, None, UNLIKE_SD)
    terms = [
        {"rows": total, "weight_mib": weight / MIB}
        for total, weight in zip(sums_ms, weight_bytes, strict=True)
    ]
    fits = [fit(model, terms, measured_ms) for model in MODELS]
    best = choose([each for each in fits if min(each.coefficients.values()) >= 0.0])
    sd = (float((best.residuals**2).mean()) + UNLIKE_SD**2) ** 0.5
    return WholeModel(best.model.name, dict(best.coefficients), len(terms), best.error, sd)
