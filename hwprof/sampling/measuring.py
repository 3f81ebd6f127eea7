"""Measuring networks by their points, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwprof.build.progress import Progress
from hwprof.errors import SpaceError
from hwprof.validation.calibrate import measure
from hwprof.validation.networks import network_job
from hwprof.validation.setting import Wanted, find_setting, require_same_environment

Points = dict[str, tuple[int, ...]]


def measure_points(
    path: Path, wanted: Wanted, points: Sequence[Sequence[int]], *, progress: Progress | None = None
) -> Points:
    """Measure these networks of the table's space where their rows are missing; op_id -> point.

    Raises:
        SpaceError: a point is no network of the space.
        Interrupted: by SIGINT; what was measured is kept.
        HwprofError: as `find_setting`, `require_same_environment` and `build_lut`.
    """
    setting = find_setting(path, wanted)
    require_same_environment(setting)
    jobs = {}
    for point in points:
        job = network_job(setting.space, tuple(point))
        if job is None:
            raise SpaceError(
                f"point {list(point)} of {setting.space.name} is no network: nothing reaches its output"
            )
        jobs[job.job_id] = (job, tuple(point))
    measure(
        setting, [job for job, _ in jobs.values()], setting.build.protocol().for_networks(), progress
    )
    return {job_id: point for job_id, (_, point) in jobs.items()}
