"""What `hwprof lut info` says about a table."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.environment import Environment
from hwprof.lut.reading import visits_path_of

if TYPE_CHECKING:
    from hwprof.lut.table import Lut

UNCALIBRATED = "uncalibrated"
VALIDATED = (
    "space", "batch", "dtype", "cache", "environment_id", "measured_in", "statistic", "networks",
    "mean_error", "within_1", "within_2", "noise_floor", "additive", "validated_at",
)  # fmt: skip


def summarise(lut: Lut) -> dict[str, Any]:
    """Size, trust and provenance of a table as JSON-able values.

    `converged_share` is over all rows. The relative interval half-width, (high - low) / (2 latency),
    is over the rows that have an interval; null if none has.
    """
    names = [
        "state",
        "granularity",
        "cache",
        "environment_id",
        "latency_ms",
        "latency_low_ms",
        "latency_high_ms",
    ]
    table = lut.columns(names)
    states, environments = (
        _counts(table.column(name).to_pylist()) for name in ("state", "environment_id")
    )
    latency, low, high = (table.column(name).to_numpy() for name in names[4:])
    half = (high - low) / (2 * latency)
    half = half[~np.isnan(half)]
    created = datetime.fromisoformat(lut.metadata["created_at"])
    return {
        "path": str(lut.path),
        "rows": len(lut),
        "rows_by_state": states,
        "rows_by_granularity": _counts(table.column("granularity").to_pylist()),
        "rows_by_cache": _counts(table.column("cache").to_pylist()),
        "converged_share": states.get("converged", 0) / len(lut) if len(lut) else None,
        "unstable_share": states.get("unstable", 0) / len(lut) if len(lut) else None,
        "interval_level": lut.metadata["interval_level"],
        "interval_half_width_median": float(np.median(half)) if half.size else None,
        "interval_half_width_p95": float(np.percentile(half, 95)) if half.size else None,
        "composition": [_composition(entry) for entry in lut.metadata["composition"] or ()]
        or UNCALIBRATED,
        "validated_error": [
            {name: entry.get(name) for name in VALIDATED} for entry in lut.metadata["validation"] or ()
        ]
        or UNCALIBRATED,
        "spaces": lut.metadata["spaces"],
        "environments": [
            {
                "environment_id": environment,
                "rows": environments.get(environment, 0),
                "description": Environment.from_dict(facts).describe(),
            }
            for environment, facts in lut.environments.items()
        ],
        "visits_file": None if lut.metadata["visits_hash"] is None else str(visits_path_of(lut.path)),
        "licence": lut.metadata["licence"],
        "created_at": lut.metadata["created_at"],
        "age_days": round((datetime.now(UTC) - created).total_seconds() / 86400, 2),
        "hwprof_version": lut.metadata["hwprof_version"],
        "schema_version": lut.metadata["schema_version"],
        "content_hash": lut.metadata["content_hash"],
    }


def _composition(entry: dict[str, Any]) -> dict[str, Any]:
    names = ("model", "coefficients", "error", "fitted_at")
    told = {name: entry.get(name) for name in names}
    return {**entry.get("scope", {}), **told, "networks": len(entry.get("networks", ()))}


def _counts(values: list[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
