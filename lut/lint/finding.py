"""One thing that lint found, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = ("note", "warning", "error")
"""From the mildest on. `error`: the number cannot be right; `warning`: it probably is not, or is out of
date; `note`: worth knowing, nothing need be wrong."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with some rows.

    Attributes:
        severity: `error`, `warning` or `note`.
        rule: the rule's name in docs/lint.md.
        message: one line for people, with the rows that matter most by name.
        row_ids: op ids of all rows concerned; empty where no single row is (a hole has no row).
    """

    severity: str
    rule: str
    message: str
    row_ids: tuple[str, ...] = ()


def at_least(finding: Finding, severity: str) -> bool:
    """Whether a finding is as bad as `severity` or worse."""
    return SEVERITIES.index(finding.severity) >= SEVERITIES.index(severity)
