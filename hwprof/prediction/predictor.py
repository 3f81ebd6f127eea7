"""Predictor: one fitted member of the family with its interval, its errors and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor


class Member(Protocol):
    """A fitted model. It works on vectors of an `Encoding`, in the metric's unit. `differentiable` says
    whether `expected` gives a gradient."""

    @property
    def name(self) -> str: ...

    @property
    def differentiable(self) -> bool: ...

    def predict(self, one_hot: Floats) -> Floats:
        """(networks,) from (networks, columns) of 0 and 1. Needs no PyTorch."""
        ...

    def expected(self, relaxed: Tensor) -> Tensor:
        """(...) from probabilities (..., columns): an estimate of the mean of `predict` over networks
        whose choices are drawn independently, exact where `predict` is multilinear.

        Raises:
            PredictionError: the member is not differentiable.
        """
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `weights.safetensors` holds."""
        ...

    def facts(self) -> dict[str, Any]:
        """What `predictor.json` holds beside it: JSON-able."""
        ...


@dataclass(frozen=True)
class Prediction:
    """Predicted values with their interval, each (networks,), in the unit of the predictor's metric."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Tried:
    """A member of the family on networks that it was not fitted on.

    Attributes:
        scores: over all folds; None where it was left out, and `skipped` says why.
        relaxation_gap: mean of |f(p) - E f| / E f over relaxed architectures p, where E f is the mean of
            f over networks drawn from p; None where the member is not differentiable.
        fit_s: seconds of the final fit.
    """

    member: str
    scores: Scores | None = None
    skipped: str | None = None
    relaxation_gap: float | None = None
    fit_s: float | None = None


@dataclass(frozen=True)
class Origin:
    """What a predictor was fitted on.

    Attributes:
        metric: column of the table, or a name of your own.
        unit: of the metric; empty where it has none.
        networks: how many it was fitted on.
        noise_floor: mean relative distance of two measurements of one network; None where not known.
        table_hash: content hash of the table; empty where it came from none.
        environment_id: empty where not known.
    """

    metric: str
    unit: str
    networks: int
    noise_floor: float | None = None
    table_hash: str = ""
    environment_id: str = ""


@dataclass(frozen=True)
class Interval:
    """Each prediction v is followed by v / factor to v x factor.

    Attributes:
        level: share of truths that it is made to hold.
        coverage: share that it held on folds that it was not made from.
    """

    level: float
    factor: float
    coverage: float


@dataclass(frozen=True)
class Predictor:
    """From points of a space to a metric.

    Attributes:
        tried: every member of the family with its errors; the chosen one is `member`.
        test: scores on networks that no part of the fit has seen; None where all were used.
    """

    encoding: Encoding
    member: Member
    interval: Interval
    origin: Origin
    tried: tuple[Tried, ...]
    test: Scores | None = None

    @property
    def metric(self) -> str:
        return self.origin.metric

    def predict(self, points: ArrayLike) -> Prediction:
        """The metric of whole networks, from choice indices (networks, positions).

        Raises:
            PredictionError: a point lies outside the encoding.
        """
        value = self.member.predict(self.encoding.one_hot(points))
        if not (np.isfinite(value).all() and (value > 0).all()):
            place = int(np.argmin(np.isfinite(value) & (value > 0)))
            raise PredictionError(
                f"the predictor gives {value[place]:g} for network {place}, which is no {self.metric}: "
                "it lies too far from the networks of the fit; measure some like it and fit again"
            )
        return Prediction(value, value / self.interval.factor, value * self.interval.factor)

    def expected(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """The metric of a relaxed architecture, differentiable, of shape (...).

        Args:
            probabilities: of shape (..., positions, most choices of one), or one tensor (..., choices)
                per position; those of a position sum to 1.

        Raises:
            PredictionError: the shape does not fit, or the member is not differentiable.
        """
        self.require_gradient()
        return self.member.expected(self.encoding.relaxed(probabilities))

    def require_gradient(self) -> None:
        """Raises PredictionError where the member is not differentiable."""
        if not self.member.differentiable:
            raise PredictionError(
                f"{self.member.name} has no gradient; fit a predictor for this use: hwprof "
                "fit-predictor TABLE --members additive,pairwise,priced,regressor"
            )

    def summary(self) -> Mapping[str, Any]:
        """All but weights and encoding, JSON-able."""
        return {
            "space": self.encoding.space,
            "member": self.member.name,
            "differentiable": self.member.differentiable,
            "how": self.member.facts().get("how", ""),
            **asdict(self.origin),
            "interval": asdict(self.interval),
            "tried": [asdict(one) for one in self.tried],
            "test": None if self.test is None else asdict(self.test),
        }
