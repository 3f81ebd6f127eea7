"""What can be wrong with the images that a search is given."""

from __future__ import annotations

from hwprof.errors import HwprofError


class DataError(HwprofError):
    """A data file or folder is missing, broken, or lacks a class; names the row or file."""
