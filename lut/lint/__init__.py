"""What is wrong with a table: `lint` and its findings."""

from __future__ import annotations

from hwprof.lut.lint.finding import SEVERITIES, Finding, at_least
from hwprof.lut.lint.lint import lint

__all__ = ["SEVERITIES", "Finding", "at_least", "lint"]
