"""Shortlist: the networks that a search ends with, predicted from the table and measured as its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hwprof.build.plan import environment_of, plan_of
from hwprof.build.progress import Progress
from hwprof.composition.composition import COLUMN_OF
from hwprof.composition.price import pricer_for
from hwprof.errors import SpaceError
from hwprof.lut import load_lut
from hwprof.measure.messages import Job
from hwprof.ops import OpSpec
from hwprof.space import Space
from hwprof.validation.calibrate import failures, measure
from hwprof.validation.measured import measured_networks
from hwprof.validation.networks import Drawn, network_job
from hwprof.validation.rebuild import measure_again, usable_rows
from hwprof.validation.setting import Setting, Wanted, find_setting

OTHER_DEVICE = "other device"
TRIES = 5
"""A few networks are measured within seconds, and one busy moment of the machine makes all of them
unstable; what is usable already is not measured again."""
ROWS_AGAIN = 8
"""The slowest rows of the shortlist's ops tell most of how fast the machine runs its networks now."""


@dataclass(frozen=True)
class Candidate:
    """One network of a shortlist, latencies in ms.

    Attributes:
        floor_ms, p50_ms: by the table's rows and composition.
        measured_floor_ms, measured_p50_ms: None where there is no usable row.
        reason: why not, or why an unstable row that was allowed is to be doubted.
        rows_ratio: time of some of the shortlist's rows, measured again beside its networks, over their
            time in the table: how much slower the machine was than when it made the table. None where
            the network was in the table already.
    """

    point: tuple[int, ...]
    op_id: str
    floor_ms: float
    p50_ms: float
    measured_floor_ms: float | None = None
    measured_p50_ms: float | None = None
    reason: str | None = None
    rows_ratio: float | None = None

    def summary(self) -> dict[str, Any]:
        return asdict(self)


def measure_shortlist(
    path: Path,
    wanted: Wanted,
    points: Sequence[Sequence[int]],
    *,
    allow_unstable: bool = False,
    progress: Progress | None = None,
) -> tuple[Candidate, ...]:
    """Predict and measure these networks of the table's space, those that come out unstable up to
    `TRIES` times. Their rows are stored in the table; networks that are there already are not measured
    again. Where this machine, runtime or setting is not that of the rows nothing is measured, and the
    reason is `OTHER_DEVICE`.

    Args:
        allow_unstable: after the last try an unstable row is an answer too; the reason says so.

    Raises:
        SpaceError: a point is no network of the space.
        HwprofError: as `find_setting` and `build_lut`.
    """
    setting = find_setting(path, wanted)
    jobs = [_job(setting.space, point) for point in points]
    # On another machine the backend may be missing altogether; the rows say no more than its name.
    here = is_here(setting)
    ops = list(dict.fromkeys(op for job in jobs for op in job.ops))
    fresh = _measured_now(setting, _once(jobs), progress) if here else set()
    ratio = _rows_ratio(setting, ops, progress) if fresh else None
    table = load_lut(path)
    chain = setting.space.family == "chain"
    ids = [job.job_id for job in jobs] if here else []
    predicted, measured = {}, {}
    for statistic in COLUMN_OF:
        scope = replace(setting.scope, statistic=statistic)
        pricer = pricer_for(table, scope, ops, allow_unstable=True)
        predicted[statistic] = [pricer.price(job.ops, chain=chain).latency_ms for job in jobs]
        found = measured_networks(table, scope, ids, allow_unstable=allow_unstable)
        measured[statistic] = {network.op_id: network.latency_ms for network in found}
    why = dict(failures(table, [Drawn((), job, spread=False) for job in jobs])) if here else {}
    return tuple(
        Candidate(
            point=tuple(point),
            op_id=job.job_id,
            floor_ms=predicted["floor"][place],
            p50_ms=predicted["p50"][place],
            measured_floor_ms=measured["floor"].get(job.job_id),
            measured_p50_ms=measured["p50"].get(job.job_id),
            reason=why.get(job.label) if here else OTHER_DEVICE,
            rows_ratio=ratio if job.job_id in fresh else None,
        )
        for place, (point, job) in enumerate(zip(points, jobs, strict=True))
    )


def is_here(setting: Setting) -> bool:
    """Whether this machine, runtime and setting are those of the rows.

    Raises:
        BackendUnavailable: the runtime of the rows is not installed.
    """
    return environment_of(setting.build).environment_id == setting.scope.environment_id


def _measured_now(setting: Setting, jobs: Sequence[Job], progress: Progress | None) -> set[str]:
    """Measure what has no usable row, some times over; the ids of what was measured."""
    protocol = setting.build.protocol().for_networks()
    missing = plan_of(setting.space, jobs, protocol)(setting.build).jobs
    for _ in range(TRIES):
        if not measure(setting, jobs, protocol, progress):
            break
    return {job.job_id for job in missing}


def _rows_ratio(setting: Setting, ops: Sequence[OpSpec], progress: Progress | None) -> float | None:
    """Time of the slowest of these ops' rows now over that in the table."""
    rows = usable_rows(setting).filter(op_id=[op.op_id for op in ops])
    before = dict(zip(*rows.columns(["op_id", "latency_ms"]).to_pydict().values(), strict=True))
    slowest = sorted((op for op in ops if op.op_id in before), key=lambda op: -before[op.op_id])
    if not slowest:
        return None
    with tempfile.TemporaryDirectory(prefix="hwprof-again-") as folder:
        table, _ = measure_again(setting, slowest[:ROWS_AGAIN], Path(folder), 0, progress)
        again = table.columns(["op_id", "latency_ms"]).to_pydict()
    both = [(now, before[op_id]) for op_id, now in zip(*again.values(), strict=True) if now is not None]
    return sum(now for now, _ in both) / sum(then for _, then in both) if both else None


def _job(space: Space, point: Sequence[int]) -> Job:
    job = network_job(space, tuple(point))
    if job is None:
        raise SpaceError(
            f"point {list(point)} of {space.name} is no network: nothing reaches its output"
        )
    return job


def _once(jobs: Sequence[Job]) -> list[Job]:
    return list({job.job_id: job for job in jobs}.values())
