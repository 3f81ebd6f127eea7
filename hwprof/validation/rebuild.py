"""Rebuild: measure some rows of a table once more and hold the two measurements against each other."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwprof.build import build_lut, plan_of
from hwprof.build.progress import Progress
from hwprof.errors import LutError
from hwprof.lut import Lut, load_lut
from hwprof.lut.diff.tables import Diff, diff
from hwprof.measure.messages import Job
from hwprof.ops import OpSpec
from hwprof.validation.early_end import Interrupted
from hwprof.validation.networks import generator
from hwprof.validation.setting import Setting, Wanted, find_setting, require_same_environment

REBUILD = 3  # seed stream of the draw; networks are drawn from streams 1 and 2


@dataclass(frozen=True)
class Rebuild:
    """Some rows of a table, measured again.

    Attributes:
        diff: the table (a) against the new measurements (b), which are not kept.
        drawn: how many rows were drawn, of `usable` ones.
        unusable: label, state and reason of the rows without a usable number this time.
        wall_s: the time that measuring took.
    """

    diff: Diff
    drawn: int
    usable: int
    unusable: tuple[tuple[str, str], ...]
    wall_s: float

    @property
    def agrees(self) -> bool:
        """Whether rows could be compared and none changed beyond its noise."""
        return self.diff.tested > 0 and not self.diff.significant

    def summary(self, limit: int | None = None) -> dict[str, Any]:
        """JSON-able; `limit` bounds the rows of the diff."""
        return {
            "drawn": self.drawn,
            "usable": self.usable,
            "agrees": self.agrees,
            "unusable": [{"label": label, "reason": reason} for label, reason in self.unusable],
            "wall_s": self.wall_s,
            "diff": self.diff.summary(limit),
        }


def rebuild(
    path: Path, wanted: Wanted, *, count: int = 20, seed: int = 0, progress: Progress | None = None
) -> Rebuild:
    """Draw `count` usable op rows of the setting and measure them again, in new processes and with the
    protocol of `wanted.effort`, into a table of its own that is thrown away. The table at `path` is not
    changed.

    Raises:
        LutError: the table has fewer usable rows; as `find_setting`.
        Interrupted: by SIGINT.
        BuildError: another environment than the rows'.
        HwprofError: as `build_lut`.
    """
    setting = find_setting(path, wanted)
    require_same_environment(setting)
    rows = usable_rows(setting)
    if not 1 <= count <= len(rows):
        raise LutError(
            f"{path} has {len(rows)} usable rows to measure again; got --rebuild {count}; give at least "
            "1 and at most so many"
        )
    rng = generator(seed, REBUILD)
    drawn = _draw(rows, count, rng)
    # Of its own, so that orders and places of buffers are not those of the build that made the rows.
    order = int(rng.integers(1 << 31))
    with tempfile.TemporaryDirectory(prefix="hwprof-rebuild-") as folder:
        again, wall_s = measure_again(setting, drawn, Path(folder), order, progress)
        before = rows.filter(op_id=[op.op_id for op in drawn])
        return Rebuild(diff(before, again), count, len(rows), _unusable(again), wall_s)


def measure_again(
    setting: Setting, ops: Sequence[OpSpec], folder: Path, seed: int, progress: Progress | None
) -> tuple[Lut, float]:
    """A table in `folder` of these ops alone, measured now in the setting, and the seconds that it
    took."""
    options = replace(setting.build, out=folder / "again.parquet", seed=seed)
    planner = plan_of(setting.space, [Job((op,)) for op in ops], options.protocol())
    report = build_lut(options, progress, planner=planner)
    if report.interrupted:
        raise Interrupted("interrupted: the table is as it was; give the same command to start over")
    return load_lut(options.out), report.wall_s


def usable_rows(setting: Setting) -> Lut:
    """The op rows of the setting that a search may use."""
    scope = setting.scope
    rows = setting.table.filter(
        granularity="op",
        environment_id=scope.environment_id,
        space=scope.space,
        batch=scope.batch,
        dtype=scope.dtype,
        cache=scope.cache,
    )
    ids = rows.columns(["op_id"]).column(0).to_pylist()
    usable = rows.usable()
    return rows.filter(op_id=[op_id for op_id, good in zip(ids, usable, strict=True) if good])


def _draw(rows: Lut, count: int, rng: np.random.Generator) -> list[OpSpec]:
    chosen = rng.choice(len(rows), count, replace=False)
    specs = rows.columns(["op_json"]).column(0).take(np.sort(chosen)).to_pylist()
    return [OpSpec.from_json(spec) for spec in specs]


def _unusable(again: Lut) -> tuple[tuple[str, str], ...]:
    columns = again.columns(["label", "state", "reason"]).to_pylist()
    return tuple(
        (row["label"], f"{row['state']}: {row['reason']}")
        for row, usable in zip(columns, again.usable(), strict=True)
        if not usable
    )
