"""Predictors: from measured networks, and rows where there are any, to the latency of every network.

Names are imported on first use; PyTorch only where something differentiable is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwprof.prediction.encoding import Encoding
    from hwprof.prediction.family import fit_family
    from hwprof.prediction.fit import fit_predictor
    from hwprof.prediction.predictor import Prediction, Predictor
    from hwprof.prediction.storage import load_predictor, save_predictor
    from hwprof.prediction.transfer import fit_transfer

__all__ = [
    "Encoding", "Prediction", "Predictor", "fit_family", "fit_predictor", "fit_transfer",
    "load_predictor", "save_predictor",
]  # fmt: skip

_HOMES = {
    "Encoding": "encoding",
    "Prediction": "predictor",
    "Predictor": "predictor",
    "fit_family": "family",
    "fit_predictor": "fit",
    "fit_transfer": "transfer",
    "load_predictor": "storage",
    "save_predictor": "storage",
}


def __getattr__(name: str) -> Any:
    """The public names."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hwprof.prediction' has no attribute {name!r}")
    return getattr(import_module(f"hwprof.prediction.{_HOMES[name]}"), name)
