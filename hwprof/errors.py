"""The error tree. The command line turns a `HwprofError` into one line and exit code 2."""

from __future__ import annotations


class HwprofError(Exception):
    """Root of every error that a user can act on: value, allowed values and next step in one line."""


class OpError(HwprofError):
    """An op's attributes contradict each other or lie outside what its kind allows."""


class SpaceError(HwprofError):
    """A search space file is wrong; the message names file, line and field."""


class BackendError(HwprofError):
    """A backend could not do what it was asked to."""


class BackendUnavailable(BackendError):
    """The backend, its runtime or its device is not here; the message says what installs it."""


class UnsupportedOp(BackendError):
    """The backend cannot compile this op, dtype or target. Such a row gets state `unsupported`."""


class CheckFailed(BackendError):
    """A compiled op produced wrong numbers. Such a row gets state `failed`."""


class DeviceLost(BackendError):
    """The device or the way to it is gone: no op is to blame, the build stops and can be resumed."""


class WorkerDied(BackendError):
    """A worker process crashed, was killed or outgrew its memory limit."""


class WorkerTimeout(WorkerDied):
    """A worker process exceeded its time limit and was killed. Such a row gets state `timeout`."""


class BuildError(HwprofError):
    """A table build cannot start or go on; what was measured is kept."""


class LutError(HwprofError):
    """A table, journal or visits file is missing, damaged or of another kind or version."""


class MissingRow(LutError):
    """A look-up found no usable row, or rows of more than one environment."""
