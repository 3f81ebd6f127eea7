"""What can go wrong with a predictor."""

from __future__ import annotations

from hwprof.errors import HwprofError


class PredictionError(HwprofError):
    """A predictor cannot be fitted, read or asked this; the message says why and what to do."""
