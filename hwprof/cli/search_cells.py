"""`hwprof search` of a DARTS space."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.cli.searching import Curves, MeasuredTable, about, latencies, shortlist_of
from hwprof.errors import HwprofError, SpaceError

if TYPE_CHECKING:
    from torch import Tensor

    from hwprof.search import ExpectedLatency, PredictedLatency
    from hwprof.search.engine.settings import Schedule, SearchSettings

Point = tuple[int, ...]
METRIC_OF = {"floor": "latency_ms", "p50": "p50_ms"}


def search_cells(
    data: Path, measured: MeasuredTable, settings: SearchSettings, folder: Path, size: str,
    train_epochs: float | None, device: str, predictor: Path | None, weight: float | None,
) -> dict[str, Any]:  # fmt: skip
    """LA-DARTS: search under a predictor's latency (or that of the rows), measure, train."""
    from hwprof.search.cells import LatencyAwareDarts
    from hwprof.search.cells.engine import VALIDATION_SHARE
    from hwprof.search.data import load_images
    from hwprof.search.engine.outcome import ONNX, write_measuring, write_outcome

    latency = _Latency(measured, predictor, settings.statistic)
    latency.check(settings.target_ms)
    schedule = _schedule(size, device, train_epochs)
    height, width = measured.space.input_shape[2:]
    classes = measured.space.positions[-1].choices[0].ops[0].out_channels
    splits = load_images(
        data, (height, width), classes=classes, limit=schedule.images,
        validation_share=VALIDATION_SHARE, seed=settings.seed,
    ).to(device)  # fmt: skip
    with Curves(folder / "logs") as watcher:
        run = LatencyAwareDarts(
            measured.space, latency, splits, settings, schedule, folder, watcher, weight=weight,
            device=device, sources=latency.sources(),
        )  # fmt: skip
        found = run.run(latency.measure)
    found.network.cpu().export_onnx(folder / ONNX, batch=measured.space.input_shape[0])
    write_measuring(folder, measured.space)
    told = {
        "trained": True,
        "accuracy": found.accuracy,
        "test_images": len(found.right),
        **latencies(found.shortlist[found.chosen]),
        **shortlist_of(found.shortlist, found.chosen),
        "minutes": dict(found.minutes),
        "kwh": None,
        "kwh_reason": "not metered for this family",
        **about(measured, settings),
        "latency_weight": weight,
        "predictor": None if predictor is None else str(predictor),
        "device": device,
        "schedule": asdict(schedule),
    }
    out = write_outcome(folder, measured.source, measured.space, found.point, told)
    content: dict[str, Any] = json.loads(out.read_text())
    return content


class _Latency:
    """Latency as the search sees it: by a predictor, or by the rows and their composition."""

    def __init__(self, measured: MeasuredTable, folder: Path | None, statistic: str) -> None:
        self._measured = measured
        self._own: ExpectedLatency | PredictedLatency = measured.latency
        self._predictor_sha256: str | None = None
        if folder is None:
            return
        from hwprof.prediction import load_predictor
        from hwprof.search import PredictedLatency
        from hwprof.search.discrete.quantities import PREDICTOR
        from hwprof.search.discrete.sources import objective_sha256

        predictor = load_predictor(folder)
        if predictor.metric != METRIC_OF[statistic]:
            raise HwprofError(
                f"{folder} predicts {predictor.metric}, the target is of the {statistic}: fit one with "
                f"--metric {METRIC_OF[statistic]}"
            )
        theirs = predictor.origin.environment_id
        if theirs and theirs != measured.environment_id:
            raise HwprofError(
                f"{folder} is of environment {theirs}, the rows of {measured.path} are of "
                f"{measured.environment_id}; give a predictor of that one: hwprof fit-predictor or "
                "hwprof transfer"
            )
        self._own = PredictedLatency(predictor, measured.space)
        self._predictor_sha256 = objective_sha256(f"{PREDICTOR}{folder}")

    def sources(self) -> dict[str, Any]:
        """What must be equal for a search to go on."""
        return {**self._measured.sources(), "predictor_sha256": self._predictor_sha256}

    def check(self, target_ms: float) -> None:
        """Raise where the target lies outside what the rows can add up to."""
        from hwprof.space import DartsLayout

        space = self._measured.space
        assert isinstance(space.cell, DartsLayout)
        costs = self._measured.costs()
        low, high = space.cell.bounds(costs.choices_ms, space.positions)
        low, high = low + costs.border_ms, high + costs.border_ms
        if not low <= target_ms <= high:
            raise SpaceError(
                f"no network of {space.name} has about {target_ms:.4g} ms: by the rows they have "
                f"{low:.4g} to {high:.4g} ms; give another target"
            )

    def expected(self, probabilities: Tensor) -> Tensor:
        """On the CPU, whatever device trains."""
        value: Tensor = self._own(probabilities.cpu())
        return value.to(probabilities)

    def price(self, points: Sequence[Point]) -> list[float]:
        found: list[float] = self._own.price(list(points)).tolist()
        return found

    def measure(self, points: Sequence[Point]) -> list[dict[str, Any]]:
        """As the table measures; a predictor's own prediction stands in place of that of the rows."""
        entries = self._measured.measure(points)
        if self._own is self._measured.latency:
            return entries
        return [
            {**entry, "rows_ms": entry["predicted_ms"], "predicted_ms": value}
            for entry, value in zip(entries, self.price(points), strict=True)
        ]


def _schedule(size: str, device: str, train_epochs: float | None) -> Schedule:
    from hwprof.search.cells import CELL_SCHEDULES

    if size == "auto":
        size = "full" if device == "cuda" else "reduced"
    if size not in CELL_SCHEDULES:
        raise HwprofError(f"size {size!r} is unknown; choose of auto, {', '.join(CELL_SCHEDULES)}")
    if train_epochs is None:
        return CELL_SCHEDULES[size]
    return replace(CELL_SCHEDULES[size], train_epochs=train_epochs)
