"""Finding: one verdict of `hwprof doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["bad", "warn", "unknown", "ok"]
SEVERITIES: tuple[Severity, ...] = ("bad", "warn", "unknown", "ok")


@dataclass(frozen=True)
class Finding:
    """A number, what it is held against, what it does to latencies, and what to do.

    Attributes:
        name: what was looked at.
        severity: `unknown` where this system does not tell; `value` is then None.
        value: what was measured, for programs; `measured` says it with its unit.
        threshold: what `measured` should be.
        effect: what it does to numbers; empty where all is well.
        remedy: what to do, with the command; empty where all is well.
    """

    name: str
    severity: Severity
    value: float | int | bool | str | None
    measured: str
    threshold: str
    effect: str = ""
    remedy: str = ""

    def line(self) -> str:
        """All of it in one line."""
        told = f"{self.severity:7} {self.name}: {self.measured} (want {self.threshold})"
        return f"{told}: {self.effect}; {self.remedy}" if self.effect else told

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def finding(
    name: str,
    value: float | int | bool | str | None,
    measured: str,
    threshold: str,
    effect: str,
    remedy: str,
    *,
    bad: bool = False,
    warn: bool = False,
) -> Finding:
    """A finding that gives advice only where it is bad or a warning."""
    if not (bad or warn):
        return Finding(name, "ok", value, measured, threshold)
    return Finding(name, "bad" if bad else "warn", value, measured, threshold, effect, remedy)


def unknown(name: str, threshold: str) -> Finding:
    return Finding(name, "unknown", None, "cannot be read here", threshold)


def verdict(findings: Iterable[Finding]) -> Severity:
    """The worst severity; `ok` if there is nothing but ok and unknown."""
    severities = {found.severity for found in findings}
    return "bad" if "bad" in severities else "warn" if "warn" in severities else "ok"


def count_of_cores(count: int) -> str:
    return f"{count} core{'s' if count != 1 else ''}"
