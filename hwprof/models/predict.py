"""The latency of a model from a table: unit by unit, with what is exact, interpolated and refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import MissingRow
from hwprof.lut import Lut, load_lut
from hwprof.models.model import Model, ModelError
from hwprof.models.reading import read_model
from hwprof.models.rows import Selection, measured_splits, observations, select_rows
from hwprof.models.split import split
from hwprof.models.term_model import TermModel
from hwprof.models.units import Split, Unit
from hwprof.models.whole import WholeModel, fit_whole

LEVEL = 0.9
QUANTILE = 1.6449
"""Of the standard normal distribution, for both ends of the interval."""
LARGEST_SD = 0.4
"""A unit that is less certain than this has no rows near it, and no price."""
NEGLIGIBLE = 0.01
"""Unless its uncertainty is less than this share of the model's price: the interval says it."""
NAMED = 5
EXACT, INTERPOLATED, FREE, REFUSED = "exact", "interpolated", "free", "refused"


@dataclass(frozen=True)
class UnitPrice:
    """One unit of the model.

    Attributes:
        name: the model's operators in it, joined by ` + `.
        kind: what the runtime runs, such as `Conv+Relu` or `ReorderInput`.
        source: `exact` (a row timed this very kernel), `interpolated`, `free` (only a view of memory) or
            `refused`; its numbers are None then, and `reason` says why.
        row: label of the exact row.
    """

    name: str
    kind: str
    source: str
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    row: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Prediction:
    """A model's latency on the device, runtime and setting of the rows.

    Attributes:
        latency_ms: of what could be priced; `low_ms` to `high_ms` hold the truth in 90 % of cases.
        overhead_ms: of a run, and what the units of a network cost beside their sum.
        exact, interpolated: share of `latency_ms` that came from such units, overhead left out.
        refused: units without a price.
        networks: how many measured networks of the table the whole was fitted on.
        left_out_error: mean relative error of the table's rows, each predicted without itself.
        measured_ms: the truth where it was asked for, else None.
    """

    model: str
    environment_id: str
    cache: str
    statistic: str
    latency_ms: float
    low_ms: float
    high_ms: float
    overhead_ms: float
    exact: float
    interpolated: float
    refused: int
    rows: int
    networks: int
    left_out_error: float
    units: tuple[UnitPrice, ...]
    measured_ms: float | None = None

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1."""
        return None if self.measured_ms is None else self.latency_ms / self.measured_ms - 1.0

    def measured(self, measured_ms: float) -> Prediction:
        return replace(self, measured_ms=measured_ms)

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "level": LEVEL, "error": self.error}


@dataclass(frozen=True)
class _UnitCosts:
    """Of each unit: expected cost, its standard deviation, what they share, why it has no price."""

    each_ms: NDArray[np.float64]
    sds: NDArray[np.float64]
    covariance: NDArray[np.float64]
    reasons: list[str | None]


class Predictor:
    """Prices models from one selection of rows. Fitting takes seconds, so keep it for several models.

    Raises:
        LutError: too few rows that can be split.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.terms = TermModel(observations(selection))
        networks = measured_splits(selection)
        self.whole: WholeModel = fit_whole(
            [self._sum_ms(found) for _, found, _ in networks],
            [self._far_bytes(found) for _, found, _ in networks],
            [ms for _, _, ms in networks],
        )

    def predict(self, model: Model, *, allow_missing: bool = False) -> Prediction:
        """The model's price.

        Args:
            allow_missing: leave units without a price out of the sum, and say so, instead of raising;
                not where that leaves nothing.

        Raises:
            ModelError: the model has another element type than the rows, or nothing to price.
            MissingRow: units without a price, named.
        """
        if model.dtype != self.selection.dtype:
            raise ModelError(
                f"{model.name} takes {model.dtype}, the rows are of {self.selection.dtype}; give a "
                f"table of {model.dtype}, or export the model in {self.selection.dtype}"
            )
        found = split(model, self.selection.block)
        costs = self._unit_costs(found)
        reasons = costs.reasons
        if not reasons:
            raise ModelError(f"{model.name} has no operator that takes time; give one that computes")
        if all(reasons) or (any(reasons) and not allow_missing):
            raise self._missing(model, found.units, reasons)
        priced = np.array([reason is None for reason in reasons])
        scale = self.whole.coefficients["rows"]
        sum_ms = float(costs.each_ms[priced].sum()) + self.terms.run_ms
        total = self.whole.latency_ms(sum_ms, self._far_bytes(found))
        shared = costs.covariance[np.ix_(priced, priced)].sum()
        sd = float(np.sqrt(scale**2 * max(0.0, shared) + (self.whole.sd * total) ** 2))
        each, sds = scale * costs.each_ms, scale * costs.sds
        units = tuple(
            self._unit_price(unit, reason, float(ms), float(unit_sd))
            for unit, reason, ms, unit_sd in zip(found.units, reasons, each, sds, strict=True)
        )
        shares = {
            source: sum(u.latency_ms or 0.0 for u in units if u.source == source) / total
            for source in (EXACT, INTERPOLATED)
        }
        return Prediction(
            model=model.name,
            environment_id=self.selection.environment_id,
            cache=self.selection.cache,
            statistic=self.selection.statistic,
            latency_ms=total,
            low_ms=max(0.0, total - QUANTILE * sd),
            high_ms=total + QUANTILE * sd,
            overhead_ms=total - sum(unit.latency_ms or 0.0 for unit in units),
            exact=shares[EXACT],
            interpolated=shares[INTERPOLATED],
            refused=sum(reason is not None for reason in reasons),
            rows=len(self.terms.rows),
            networks=self.whole.networks,
            left_out_error=float(np.abs(self.terms.left_out).mean()),
            units=units,
        )

    def _unit_costs(self, found: Split) -> _UnitCosts:
        units = found.units
        unknown = [[t.kind for t in unit.terms if t.kind not in self.terms.kinds] for unit in units]
        reasons = [f"no row runs a {kinds[0]}" if kinds else None for kinds in unknown]
        terms = [
            (number, term)
            for number, unit in enumerate(units)
            for term in unit.terms
            if reasons[number] is None
        ]
        costs = self.terms.costs([term for _, term in terms])
        owner = np.zeros((len(units), len(terms)))
        owner[[number for number, _ in terms], range(len(terms))] = costs.each_ms
        covariance = owner @ costs.log_covariance @ owner.T
        kernels = owner.sum(axis=1)
        sds = np.sqrt(np.maximum(0.0, np.diag(covariance)))
        each = kernels + self.terms.unit_ms * (kernels > 0.0)
        total = self.terms.run_ms + float(each.sum())
        for number in np.flatnonzero((sds > LARGEST_SD * kernels) & (sds > NEGLIGIBLE * total)):
            reasons[number] = (
                f"no rows are near enough (uncertain by {sds[number] / kernels[number]:.0%}, "
                f"{LARGEST_SD:.0%} is the most)"
            )
        return _UnitCosts(each, sds, covariance, reasons)

    def _unit_price(self, unit: Unit, reason: str | None, ms: float, sd: float) -> UnitPrice:
        if reason is not None:
            return UnitPrice(unit.name, unit.kind, REFUSED, None, None, None, reason=reason)
        if not unit.terms:
            return UnitPrice(unit.name, unit.kind, FREE, 0.0, 0.0, 0.0)
        row = self.terms.exact_row(unit.terms[0])
        return UnitPrice(
            unit.name, unit.kind, EXACT if row else INTERPOLATED, ms, max(0.0, ms - QUANTILE * sd),
            ms + QUANTILE * sd, row,
        )  # fmt: skip

    def _sum_ms(self, found: Split) -> float:
        return float(self._unit_costs(found).each_ms.sum()) + self.terms.run_ms

    def _far_bytes(self, found: Split) -> float:
        """Weights that are further away in a network than in their rows."""
        return found.cached_weight_bytes(self.selection.cache_bytes)

    def _missing(
        self, model: Model, units: Sequence[Unit], refusals: Sequence[str | None]
    ) -> MissingRow:
        why = [
            f"{unit.kind} ({unit.name[:60]}): {refusal}"
            for unit, refusal in zip(units, refusals, strict=True)
            if refusal is not None
        ]
        more = f" and {len(why) - NAMED} more" if len(why) > NAMED else ""
        path = self.selection.table.path
        rest = ", or give --allow-missing for the price of the rest" if len(why) < len(units) else ""
        return MissingRow(
            f"{path} does not price {len(why)} of {len(units)} units of {model.name}: "
            f"{'; '.join(why[:NAMED])}{more}; add rows of such ops with hwprof build-lut --out {path} "
            f"(docs/predict.md){rest}"
        )


def predict_model(model: Model, table: Lut, *, allow_missing: bool = False, **rows: Any) -> Prediction:
    """The price of a model that was read; `rows` as of `select_rows`. Raises as `Predictor.predict`."""
    return Predictor(select_rows(table, **rows)).predict(model, allow_missing=allow_missing)


def predict_file(
    path: str | Path, lut: str | Path, *, allow_missing: bool = False, **rows: Any
) -> Prediction:
    """The price of an ONNX file from a table's path; `rows` as of `select_rows`.

    Raises:
        ModelError: the model cannot be read or split.
        LutError, MissingRow: the rows do not price it.
    """
    model = read_model(path)
    return predict_model(model, load_lut(lut), allow_missing=allow_missing, **rows)
