"""Regressor: LA-DARTS's multi-layer regressor on the encoded architecture (Xu et al. 2020, arXiv
2001.06392), and the same on features that a table prices. The paper's widths could not be read: these
are ours.

The published regressor has seen networks only, and is then asked about relaxed architectures. Here
half of each training step is about those: f(p) is drawn to the mean of f itself over networks sampled
from p, so that its value on a relaxation is an estimate of the mean cost of the networks in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import BackendUnavailable
from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.knowledge import Knowledge
from hwprof.prediction.tensors import Tensors

if TYPE_CHECKING:
    from torch import Tensor

LAYERS = ("first", "second", "last")


@dataclass(frozen=True)
class Regressor:
    """scale x base x above_zero(mean over copies of two hidden layers' outputs), on vectors x @ into.

    above_zero(z) is 1 + z from 0 on and exp(z) below.

    Attributes:
        into: (columns, features): from a vector to the inputs, of variance about 1.
        shift: (features,), taken off them.
        base: (features + 1,) weights of a linear part and its constant; of `regressor` the constant 1.
        layers: weights and biases, each with a first dimension of copies.
        name: `regressor` or `priced`.
    """

    encoding: Encoding
    into: Floats
    shift: Floats
    base: Floats
    layers: dict[str, Floats]
    scale: float
    name: str

    @property
    def differentiable(self) -> bool:
        return True

    def predict(self, one_hot: Floats) -> Floats:
        inputs = one_hot @ self.into - self.shift
        hidden = np.broadcast_to(inputs, (len(self.layers["last"]), *inputs.shape))
        for name in LAYERS[:-1]:
            hidden = _silu(hidden @ self.layers[name] + self.layers[f"{name}_bias"])
        bent = (hidden @ self.layers["last"])[..., 0].mean(0)
        total: Floats = self.scale * (inputs @ self.base[:-1] + self.base[-1]) * _above_zero(bent)
        return total

    def expected(self, relaxed: Tensor) -> Tensor:
        from torch.nn.functional import elu, silu

        own = self._tensors.like(relaxed)
        inputs = relaxed @ own["into"] - own["shift"]
        flat = inputs.reshape(-1, inputs.shape[-1])
        hidden = flat.expand(len(self.layers["last"]), *flat.shape)
        for name in LAYERS[:-1]:
            hidden = silu(hidden @ own[name] + own[f"{name}_bias"])
        bent = (hidden @ own["last"])[..., 0].mean(0).reshape(inputs.shape[:-1])
        straight = inputs @ own["base"][:-1] + own["base"][-1]
        total: Tensor = self.scale * straight * (elu(bent) + 1.0)
        return total

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"into": self.into, "shift": self.shift, "base": self.base, **self.layers}

    def facts(self) -> dict[str, Any]:
        return {"scale": self.scale}

    @classmethod
    def load(
        cls, encoding: Encoding, facts: dict[str, Any], arrays: dict[str, NDArray[Any]], name: str
    ) -> Regressor:
        """Raises KeyError, TypeError or ValueError where the parts do not fit."""
        found = {key: array.astype(np.float64) for key, array in arrays.items()}
        features = found["into"].shape[1]
        copies, _, hidden = found["first"].shape
        wanted = {
            "into": (encoding.columns, features),
            "shift": (features,),
            "base": (features + 1,),
            "first": (copies, features, hidden),
            "first_bias": (copies, 1, hidden),
            "second": (copies, hidden, hidden),
            "second_bias": (copies, 1, hidden),
            "last": (copies, hidden, 1),
        }
        if {key: array.shape for key, array in found.items()} != wanted or not copies:
            raise ValueError("layers do not fit the encoding")
        scale = float(facts["scale"])
        if not 0.0 < scale < np.inf:
            raise ValueError("scale of a regressor")
        outer = {key: found.pop(key) for key in ("into", "shift", "base")}
        return cls(encoding, **outer, layers=found, scale=scale, name=name)

    @cached_property
    def _tensors(self) -> Tensors:
        return Tensors(self.arrays())


def fit_regressor(one_hot: Floats, values: Floats, knowledge: Knowledge, seed: int = 0) -> Regressor:
    """On one-hot vectors.

    Raises:
        BackendUnavailable: PyTorch is not installed.
    """
    encoding = knowledge.encoding
    widths = np.array([encoding.widths[place] for place in encoding.chosen])[encoding.position_of]
    # Columns of a position are about as far apart as independent inputs of variance 1.
    into = np.diag(np.sqrt(widths / 2.0))
    shift = (into / widths[:, None]).sum(0)
    base = np.append(np.zeros(encoding.columns), 1.0)
    start = Regressor(encoding, into, shift, base, {}, float(values.mean()), "regressor")
    return _trained(start, one_hot, values, seed)


def fit_priced(one_hot: Floats, values: Floats, knowledge: Knowledge, seed: int = 0) -> Regressor:
    """On sums of a network's rows by op kind and the terms of compositions: a ridge on them, and the
    same layers for the factor that it leaves.

    Raises:
        PredictionError: the table cannot price every choice.
        BackendUnavailable: PyTorch is not installed.
    """
    rows = knowledge.rows
    if rows is None:
        raise PredictionError(knowledge.without_rows)
    terms = rows.of_networks(one_hot)
    spread = terms.std(axis=0)
    kept = spread > 1e-9 * np.abs(terms).max(axis=0)
    if not kept.any():
        raise PredictionError("the rows price all these networks alike")
    into = rows.columns[:, kept] / spread[kept]
    shift = (terms.mean(axis=0) - rows.constant)[kept] / spread[kept]
    scale = float(values.mean())
    inputs = one_hot @ into - shift
    design = np.hstack([inputs, np.ones((len(values), 1))]) * (scale / values)[:, None]
    penalty = np.append(np.full(int(kept.sum()), 1e-3 * len(values)), 0.0)
    base = np.linalg.solve(design.T @ design + np.diag(penalty), design.sum(axis=0))
    start = Regressor(knowledge.encoding, into, shift, base, {}, scale, "priced")
    return _trained(start, one_hot, values, seed)


def _trained(start: Regressor, one_hot: Floats, values: Floats, seed: int) -> Regressor:
    try:
        from hwprof.prediction.training import train_layers
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendUnavailable("PyTorch is not installed: pip install 'hwprof[torch]'") from None
    return replace(start, layers=train_layers(start, one_hot, values, seed))


def _above_zero(values: Floats) -> Floats:
    return np.asarray(np.where(values > 0, 1.0 + values, np.exp(np.minimum(values, 0.0))))


def _silu(values: Floats) -> Floats:
    return np.asarray(values / (1.0 + np.exp(-np.clip(values, -60.0, None))))
