"""Composition: the model from rows to a network's latency, as it stands in a table's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hwprof.composition.terms import MEASURED, TERMS
from hwprof.errors import LutError

COLUMN_OF = {"floor": "latency_ms", "p50": "p50_ms"}
"""Statistic of a network -> the column of rows and networks that it is about."""
UNREADABLE = "the table's composition is not one that this hwprof reads; fit it anew: hwprof calibrate"


@dataclass(frozen=True)
class Scope:
    """What a composition is for: rows of one environment, space, batch, dtype and cache state.

    Attributes:
        statistic: `floor` or `p50`.
    """

    environment_id: str
    space: str
    batch: int
    dtype: str
    cache: str
    statistic: str

    @property
    def column(self) -> str:
        return COLUMN_OF[self.statistic]


@dataclass(frozen=True)
class Composition:
    """A fitted model.

    Attributes:
        model: its name in `hwprof.composition.models.MODELS`.
        coefficients: term -> weight; `edges` weighs the sum of the edges.
        networks: ids of the networks that it was fitted on; their rows are in the table.
        error: mean relative error over those networks, each predicted without itself.
        sigma: standard deviation of that relative error.
        compared: the same error of every model that was tried.
    """

    scope: Scope
    model: str
    coefficients: Mapping[str, float]
    networks: tuple[str, ...]
    error: float
    sigma: float
    compared: Mapping[str, float]
    fitted_at: str
    hwprof_version: str

    @property
    def uses_edges(self) -> bool:
        return "edges" in self.coefficients

    @property
    def uses_behind(self) -> bool:
        return "behind" in self.coefficients

    @property
    def row_weight(self) -> float:
        """Weight of an op's own time, be it alone or behind a neighbour."""
        return self.coefficients["behind" if self.uses_behind else "rows"]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Composition:
        """Raises LutError where the metadata hold something else."""
        try:
            made = cls(
                **{
                    **data,
                    "scope": Scope(**data["scope"]),
                    "networks": tuple(data["networks"]),
                    "coefficients": {str(k): float(v) for k, v in data["coefficients"].items()},
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LutError(UNREADABLE) from None
        if unknown := sorted(set(made.coefficients) - {*TERMS, *MEASURED}):
            raise LutError(
                f"the table's composition has the unknown term {unknown[0]!r}; it knows "
                f"{', '.join((*TERMS, *MEASURED))}"
            )
        return made

    def describe(self) -> str:
        """One line: model, coefficients, error."""
        weights = ", ".join(f"{name} {value:.4g}" for name, value in self.coefficients.items())
        return (
            f"{self.scope.space} {self.scope.statistic}: {self.model} ({weights}), fitted on "
            f"{len(self.networks)} networks, mean error {self.error:.2%} without the network itself"
        )


def compositions(metadata: Mapping[str, Any]) -> list[Composition]:
    """All that a table holds; none if it is uncalibrated.

    Raises:
        LutError: the metadata hold something else.
    """
    return [Composition.from_dict(data) for data in _stored(metadata)]


def composition_for(metadata: Mapping[str, Any], scope: Scope) -> Composition | None:
    """The composition of exactly this scope, or None. Raises LutError where it cannot be read; those of
    other scopes, which another hwprof may have written, are left alone."""
    for data in _stored(metadata):
        if data.get("scope") == asdict(scope):
            return Composition.from_dict(data)
    return None


def _stored(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = metadata["composition"] or []
    if not isinstance(found, list) or not all(isinstance(data, Mapping) for data in found):
        raise LutError(UNREADABLE)
    return found
