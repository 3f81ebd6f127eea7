"""hwprof: measured, shareable latency tables for hardware-aware neural-architecture search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwprof.lut import load_lut

__version__ = "0.1.0"
__all__ = ["__version__", "load_lut"]


def __getattr__(name: str) -> Any:
    """`load_lut` is imported on first use, so that `import hwprof` stays light."""
    if name == "load_lut":
        from hwprof.lut import load_lut

        return load_lut
    raise AttributeError(f"module 'hwprof' has no attribute {name!r}")
