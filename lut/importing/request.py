"""What the caller tells about a source, since most published files say neither device nor runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwprof.errors import LutError

MAX_NAME = 200
DEFAULT_THREADS = 1
SPREAD_DOUBT = "how the numbers were taken is not told, nor how precisely: no interval"
DTYPE_DOUBT = "the element type is not told: filed under float32, bytes_moved is null"
THREADS_DOUBT = "threads are not told: filed under 1"


@dataclass(frozen=True)
class Request:
    """Facts and choices of the caller; None: not told.

    Attributes:
        device: what the numbers are of.
        runtime: what ran the ops.
        threads: threads given to the runtime.
        batch: images of one inference.
        per_ms: what the source counts in a millisecond.
        columns: field of ours -> column of a CSV file.
        layers: layers of a FBNet table, see `hwprof.lut.importing.fbnet_layers`.
        metric: column or table of a HW-NAS-Bench-like source.
        dataset: data set of NAS-Bench-201 networks.
        model: the .tflite file that a profile is of.
    """

    device: str | None = None
    runtime: str | None = None
    threads: int | None = None
    batch: int | None = None
    per_ms: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    layers: str | None = None
    metric: str | None = None
    dataset: str | None = None
    model: Path | None = None

    def __post_init__(self) -> None:
        for name in ("device", "runtime"):
            value = getattr(self, name)
            if value is not None:
                line_of_text(name, value)
        for name, most in (("threads", 4096), ("batch", 65536)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise LutError(f"{name} {value} is not 1 to {most}")
        if self.per_ms is not None and not (math.isfinite(self.per_ms) and self.per_ms > 0):
            raise LutError(f"{self.per_ms} per ms is no unit; give a number above 0, such as 1000")

    def identity(
        self, imported_from: str, device: str | None = None, runtime: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """The identity of an environment: what the caller told goes before what the source told, which
        stands in `device` and `runtime`. `more` are fields that only this source has.

        Raises:
            LutError: neither tells the device, or neither the runtime.
        """
        made: dict[str, Any] = {
            "device": self.device or device,
            "runtime": self.runtime or runtime,
            "imported_from": imported_from,
        }
        for name in ("device", "runtime"):
            if made[name] is None:
                raise LutError(
                    f"the {imported_from} does not tell its {name}; give --{name} NAME: numbers of two "
                    f"{name}s must not look like those of one"
                )
            line_of_text(name, str(made[name]))
        if self.threads is not None:
            made["threads"] = self.threads
        return {**made, **more}

    def doubts(self, *more: str) -> tuple[str, ...]:
        """`more`, and what the caller could have told and did not."""
        return (*more, *((THREADS_DOUBT,) if self.threads is None else ()))


def line_of_text(name: str, text: str) -> str:
    """The text itself.

    Raises:
        LutError: empty, not printable, or longer than 200 characters.
    """
    if not text.strip() or not text.isprintable() or len(text) > MAX_NAME:
        raise LutError(f"{name} {text[:60]!r} is no name; give one line of 1 to {MAX_NAME} characters")
    return text
