"""What can go wrong in training a supernet or a found network."""

from __future__ import annotations

from hwprof.errors import HwprofError


class TrainingError(HwprofError):
    """Training cannot start or go on; the message says where, and what was kept."""


class CheckpointError(HwprofError):
    """A checkpoint is missing, damaged, or of another space, version or training."""
