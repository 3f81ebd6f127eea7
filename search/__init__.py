"""Search on a latency table. Needs PyTorch, which is imported when a name is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwprof.errors import BackendUnavailable

if TYPE_CHECKING:
    from hwprof.search.expected_latency import ExpectedLatency

__all__ = ["ExpectedLatency"]


def __getattr__(name: str) -> Any:
    """The public names.

    Raises:
        BackendUnavailable: PyTorch is not installed.
    """
    if name != "ExpectedLatency":
        raise AttributeError(f"module 'hwprof.search' has no attribute {name!r}")
    try:
        from hwprof.search.expected_latency import ExpectedLatency
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise BackendUnavailable(
            f"hwprof.search.{name} needs PyTorch, which is not installed: pip install 'hwprof[torch]'"
        ) from None
    return ExpectedLatency
