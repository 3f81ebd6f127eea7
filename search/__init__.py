"""Search on a latency table. Needs PyTorch, which is imported when a name is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hwprof.errors import BackendUnavailable

if TYPE_CHECKING:
    from hwprof.search.costs import ExpectedCosts
    from hwprof.search.devices import AcrossDevices
    from hwprof.search.expected_latency import ExpectedLatency
    from hwprof.search.losses import LOSSES, make_loss
    from hwprof.search.pairwise import PairwiseLatency
    from hwprof.search.predicted_latency import PredictedLatency

__all__ = [
    "AcrossDevices",
    "ExpectedCosts",
    "ExpectedLatency",
    "LOSSES",
    "PairwiseLatency",
    "PredictedLatency",
    "make_loss",
]

_MODULE_OF = {
    "AcrossDevices": "devices",
    "ExpectedCosts": "costs",
    "ExpectedLatency": "expected_latency",
    "LOSSES": "losses",
    "PairwiseLatency": "pairwise",
    "PredictedLatency": "predicted_latency",
    "make_loss": "losses",
}


def __getattr__(name: str) -> Any:
    """The public names.

    Raises:
        BackendUnavailable: PyTorch is not installed.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hwprof.search' has no attribute {name!r}")
    try:
        module = import_module(f"hwprof.search.{_MODULE_OF[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendUnavailable(
            f"hwprof.search.{name} needs PyTorch, which is not installed: pip install 'hwprof[torch]'"
        ) from None
    return getattr(module, name)
