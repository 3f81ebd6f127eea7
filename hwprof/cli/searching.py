"""What every kind of `hwprof search` shares: the table it searches on, its curves, what it tells."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.errors import BackendUnavailable

if TYPE_CHECKING:
    from hwprof.lut import Lut
    from hwprof.search.engine.settings import SearchSettings
    from hwprof.search.expected_latency import ExpectedLatency
    from hwprof.search.largest import AdditiveCosts
    from hwprof.validation.setting import Setting, Wanted

Point = tuple[int, ...]


class MeasuredTable:
    """The table as a search sees it: it prices points, and measures them where its rows were made."""

    def __init__(
        self, path: Path, table: Lut, wanted: Wanted, statistic: str, allow_unstable: bool
    ) -> None:
        from hwprof.search.expected_latency import ExpectedLatency
        from hwprof.search.scale import only_scope
        from hwprof.space import load_space
        from hwprof.validation.setting import find_setting

        assert wanted.space is not None
        self.path, self.statistic = path, statistic
        self._table, self._allow_unstable = table, allow_unstable
        self.source = wanted.space
        there = {} if wanted.environment_id is None else {"environment_id": wanted.environment_id}
        self._setting: Setting | None = None
        if len(table.filter(granularity="op", source="measured", **there)):
            self._setting = find_setting(path, wanted, statistic)
            self.space, self._scope = self._setting.space, self._setting.scope
        else:
            batch = 1 if wanted.batch is None else wanted.batch
            self.space = load_space(wanted.space).with_options(batch, wanted.dtype or "float32")
            floor = only_scope(table, self.space, wanted.environment_id, wanted.cache)
            self._scope = replace(floor, statistic=statistic)
        self.environment_id, self.cache = self._scope.environment_id, self._scope.cache
        self._wanted = replace(wanted, environment_id=self.environment_id)
        self.latency: ExpectedLatency = ExpectedLatency(
            table, self.space, environment=self.environment_id, column=self._scope.column,
            cache=self.cache, allow_unstable=allow_unstable,
        )  # fmt: skip

    def check(self, target_ms: float) -> None:
        """Raise where no network of the space is near the target; both bounds are named."""
        from hwprof.search.largest import check_target

        check_target(self.space, self.latency.bounds(), target_ms)

    def check_measuring(self) -> None:
        """Raise what would keep the shortlist of a long search from being measured: settings that the
        backend does not have, an interpreter that is not there, a table that cannot be written."""
        from hwprof.backends import backend_class
        from hwprof.build.options import check_options
        from hwprof.validation.shortlist import is_here

        if self._setting is None:
            return
        build = self._setting.build
        build.protocol()
        with contextlib.suppress(BackendUnavailable):  # the runtime may be that of another device
            check_options(backend_class(build.backend), build.options)
            if is_here(self._setting):
                build.check()

    def sources(self) -> dict[str, Any]:
        """Which rows prices come from, and a hash of their numbers: what must be equal for a search to
        go on."""
        from hwprof.search.discrete.sources import rows_sha256

        numbers = rows_sha256(
            self._table, self.space.ops(), self.statistic, environment=self.environment_id,
            cache=self.cache, allow_unstable=self._allow_unstable,
            composition=self.latency.composition,
        )  # fmt: skip
        return {"environment_id": self.environment_id, "cache": self.cache, "rows": numbers}

    def costs(self) -> AdditiveCosts:
        """What each choice costs; raises where the table's composition has edges."""
        from hwprof.search.largest import additive_costs

        return additive_costs(
            self._table, self.space, environment=self.environment_id,
            column=self._scope.column, cache=self.cache, allow_unstable=self._allow_unstable,
        )  # fmt: skip

    def measure(self, points: Sequence[Point]) -> list[dict[str, Any]]:
        """For each point what is predicted and measured, in ms; `measured_ms` is None where this is not
        the table's device or the visits disagree, and `reason` says so."""
        from hwprof.build.progress import Progress
        from hwprof.validation.shortlist import OTHER_DEVICE, measure_shortlist

        predicted = self.latency.price(points).tolist()
        reason = OTHER_DEVICE
        if self._setting is not None:
            try:
                found = measure_shortlist(
                    self.path, self._wanted, points,
                    allow_unstable=self._allow_unstable, progress=Progress(),
                )  # fmt: skip
            except BackendUnavailable as error:
                reason = f"{OTHER_DEVICE}: {error}"
            else:
                of = {"floor": "measured_floor_ms", "p50": "measured_p50_ms"}[self.statistic]
                return [
                    {"predicted_ms": ms, "measured_ms": getattr(candidate, of), **candidate.summary()}
                    for ms, candidate in zip(predicted, found, strict=True)
                ]
        return [
            {"predicted_ms": ms, "measured_ms": None, "point": list(point), "reason": reason}
            for ms, point in zip(predicted, points, strict=True)
        ]


def latencies(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Of the network found, in ms: predicted and measured by the target's statistic, then by both."""
    names = ("predicted_ms", "measured_ms", "measured_floor_ms", "measured_p50_ms", "reason")
    return {name: entry.get(name) for name in names}


def shortlist_of(shortlist: Sequence[Mapping[str, Any]], chosen: int) -> dict[str, Any]:
    """The networks of a shortlist, which of them was taken, and what measuring them changed."""
    from hwprof.search.discrete.changes import changes

    found = changes([e["predicted_ms"] for e in shortlist], [e["measured_ms"] for e in shortlist])
    return {
        "shortlist": list(shortlist),
        "chosen": chosen,
        "changes": None if found is None else found.summary(),
    }


def shortlist_lines(told: Mapping[str, Any], marks: Mapping[int, str]) -> list[str]:
    """A search's shortlist as text: predicted and measured of each network, what is said of some places
    (`marks`), and what measuring changed."""
    from hwprof.search.discrete.changes import Changes

    lines = ["shortlist, predicted and measured:"]
    for place, entry in enumerate(told["shortlist"]):
        truth = entry["measured_ms"]
        said = "null" if truth is None else f"{truth:.4g} ms"
        said += f" ({entry['reason']})" if entry.get("reason") else ""
        lines.append(f"  {place + 1}. {entry['predicted_ms']:.4g} ms, {said}{marks.get(place, '')}")
    if told["changes"] is not None:
        lines.append(f"  {Changes(**told['changes']).text()}")
    for ratio in {entry["rows_ratio"] for entry in told["shortlist"] if entry.get("rows_ratio")}:
        lines.append(
            f"  some of its rows, measured again beside it, take {ratio:.3f} of their time in the table"
        )
    return lines


def about(measured: MeasuredTable, settings: SearchSettings) -> dict[str, Any]:
    composition = measured.latency.composition
    return {
        "asked": asdict(settings),
        "environment_id": measured.environment_id,
        "table": str(measured.path),
        "composition": None if composition is None else composition.model,
    }


class Curves:
    """Notes on standard error, curves for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        from hwprof.build.progress import Progress

        self._writer = SummaryWriter(str(folder))
        self._progress = Progress()

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def note(self, text: str) -> None:
        self._progress.note(text)

    def scalar(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)
