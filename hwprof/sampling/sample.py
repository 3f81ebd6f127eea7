"""Active sampling: measure in batches until the error is below a target or the budget is used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwprof.build.plan import expected_ms
from hwprof.build.progress import Progress
from hwprof.errors import BuildError
from hwprof.lut import Lut, load_lut
from hwprof.measure.messages import Job
from hwprof.measure.protocol import Protocol
from hwprof.ops import OpSpec
from hwprof.prediction.encoding import Floats
from hwprof.prediction.measured import read_measured
from hwprof.sampling.belief import Belief, OpCounts, believe
from hwprof.sampling.choose import Picked, choose
from hwprof.space import Space
from hwprof.validation.calibrate import failures, measure
from hwprof.validation.networks import Drawn, network_job
from hwprof.validation.setting import Setting, Wanted, find_setting, require_same_environment

LEAST_NETWORKS = 10
"""Fewer measured networks say nothing about the error."""
POOL, CANDIDATES = 600, 150
"""Networks that stand for the space, and those of them that may be measured in the next batch."""
SHARE_OF_BUDGET = 0.15
"""A batch takes at most about so much of the budget, and has no more networks than are known: later ones
know more."""
TRIES = 5
"""A batch is measured within seconds, and one busy moment of the machine makes all of it unstable: a
run with ten minutes to spend ended after twenty seconds, on a host disturbed for a third of the time."""
CERTAINTY = 1.645
"""Standard errors above the mean: the error is below the bound with 95 %."""

Points = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Step:
    """A batch, and what is known after it.

    Attributes:
        networks, ops: measured in it; of failed ones there are rows too.
        known: measured networks in the table with a number to trust.
        missing: ops of the space without a row.
        error: mean relative error of the known networks, each predicted from the others; bound: what it
            is below of with 95 %. None below 10 networks.
        wall_s: since the start.
    """

    networks: int
    ops: int
    known: int
    missing: int
    error: float | None
    bound: float | None
    wall_s: float


@dataclass(frozen=True)
class Sampled:
    """What a sampling did.

    Attributes:
        ended: `target`: the bound is below the target; `budget`: the time is used up; `space`: there is
            nothing left to measure.
        steps: the first one is what was known before.
    """

    ended: str
    target_error: float
    budget_s: float
    steps: tuple[Step, ...]

    @property
    def reached(self) -> bool:
        return self.ended == "target"

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "reached": self.reached, "steps": [asdict(step) for step in self.steps]}


def sample(
    path: Path,
    wanted: Wanted,
    *,
    budget_s: float,
    target_error: float,
    seed: int = 0,
    progress: Progress | None = None,
    told: Callable[[Step], None] | None = None,
) -> Sampled:
    """Measure networks, and ops without a row, of the space of the table's rows. All become rows of the
    table, so that the same command goes on from there.

    Args:
        told: is told each step.

    Raises:
        BuildError: a budget or target that cannot be; another machine than the rows'; no usable row; a
            batch of which no network got a number to trust.
        Interrupted: by SIGINT; what was measured is kept.
        HwprofError: as `find_setting` and `build_lut`.
    """
    if not budget_s > 0.0:
        raise BuildError(f"budget must be more than 0 seconds, got {budget_s:g}")
    if not 0.0 < target_error < 1.0:
        raise BuildError(f"target-error {target_error:g} is not in (0, 1); 0.02 is 2 %")
    started = time.monotonic()
    setting = find_setting(path, wanted)
    require_same_environment(setting)
    sampler = _Sampler(setting, seed)
    steps = [sampler.step(0, 0, 0.0)]
    while True:
        if told is not None:
            told(steps[-1])
        left_s = budget_s - (time.monotonic() - started)
        if steps[-1].bound is not None and steps[-1].bound <= target_error:
            return Sampled("target", target_error, budget_s, tuple(steps))
        picked = sampler.pick(left_s, SHARE_OF_BUDGET * budget_s)
        if not picked.networks and not picked.ops:
            ended = "budget" if sampler.anything_left else "space"
            return Sampled(ended, target_error, budget_s, tuple(steps))
        sampler.measure(picked, left_s, progress)
        wall_s = time.monotonic() - started
        steps.append(sampler.step(len(picked.networks), len(picked.ops), wall_s))


class _Sampler:
    """The table as it is, and what is believed of it."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        self.anything_left = True
        self._rng = np.random.default_rng([seed, 6])
        self._counts = OpCounts.of(setting.space)
        self._protocols = setting.build.protocol(), setting.build.protocol().for_networks()
        self._op_seconds = np.array([self._seconds(Job((op,))) for op in self._counts.ops])
        self._pace = 1.0
        self._tried: set[str] = set()
        self._jobs: list[Job] = []
        self._points: Points = {}
        self._look()

    def step(self, networks: int, ops: int, wall_s: float) -> Step:
        error = bound = None
        errors = np.abs(self._belief.errors)
        if len(errors) >= LEAST_NETWORKS:
            error = float(errors.mean())
            bound = error + CERTAINTY * float(errors.std(ddof=1)) / float(np.sqrt(len(errors)))
        missing = int((self._belief.guess_spread > 0.0).sum())
        return Step(networks, ops, len(errors), missing, error, bound, wall_s)

    def pick(self, left_s: float, share_s: float) -> Picked:
        """What fits into a batch of `share_s`, and into what is left."""
        drawn = self._counts.with_network(_drawn(self.setting.space, self._rng, POOL))
        points: Points = {}
        jobs: dict[str, Job] = {}
        for point in drawn[: 2 * CANDIDATES]:
            job = network_job(self.setting.space, tuple(point))
            if job is not None and job.job_id not in self._tried and len(jobs) < CANDIDATES:
                jobs[job.job_id], points[job.job_id] = job, tuple(point)
        self._jobs = list(jobs.values())
        self._points |= points
        stand_for_all = [*points.values(), *drawn[2 * CANDIDATES :]] or drawn
        counts = self._counts.of_points(stand_for_all)
        seconds = np.array([self._pace * self._seconds(job) for job in self._jobs])
        op_seconds = np.where(
            [op.op_id in self._tried for op in self._counts.ops], np.inf, self._pace * self._op_seconds
        )
        untried = (self._belief.guess_spread > 0.0) & np.isfinite(op_seconds)
        self.anything_left = bool(self._jobs) or bool(untried.any())
        wanted = max(0, LEAST_NETWORKS - len(self._belief.errors))
        first_s = float(np.sort(seconds)[:wanted].sum()) * 1.5 if wanted else 0.0
        return choose(
            self._belief, counts, seconds, op_seconds, min(left_s, max(share_s, first_s)),
            least_networks=wanted, most_networks=max(LEAST_NETWORKS, len(self._belief.errors)),
        )  # fmt: skip

    def measure(self, picked: Picked, left_s: float, progress: Progress | None) -> None:
        """A batch of which all networks are unstable is measured again.

        Raises:
            BuildError: no network of a batch of `LEAST_NETWORKS` or more can be used.
        """
        began = time.monotonic()
        known = len(self._belief.errors)
        ops = [Job((self._counts.ops[place],)) for place in picked.ops]
        networks = [self._jobs[place] for place in picked.networks]
        op_protocol, network_protocol = self._protocols
        self._build(ops, op_protocol, began + left_s, progress)
        self._build(networks, network_protocol, began + left_s, progress)
        # What a job takes is guessed from its FLOPs; the machine tells how fast it is.
        self._pace *= float(np.clip((time.monotonic() - began) / picked.seconds, 0.2, 5.0))
        self._look()
        if len(networks) < LEAST_NETWORKS:
            return
        for _ in range(TRIES - 1):
            if len(self._belief.errors) > known or "unstable" not in self._states(networks):
                break
            self._build(networks, network_protocol, began + left_s, progress)
            self._look()
        if len(self._belief.errors) == known:
            scope = self.setting.scope
            drawn = [Drawn((), job, spread=False) for job in networks]
            failed = failures(self.setting.table, drawn, scope.environment_id, scope.cache)
            why = f" (first: {failed[0][0]}: {failed[0][1]})" if failed else ""
            raise BuildError(
                f"none of the last {len(networks)} networks has a number to trust{why}; their rows are "
                "kept; see what disturbs the machine: hwprof doctor; or give --effort normal or rigorous"
            )

    def _build(
        self, jobs: Sequence[Job], protocol: Protocol, until_s: float, progress: Progress | None
    ) -> None:
        left_s = until_s - time.monotonic()
        if jobs and left_s > 0.0:
            build = replace(self.setting.build, budget_s=left_s)
            measure(replace(self.setting, build=build), jobs, protocol, progress)
            self._tried |= {job.job_id for job in jobs}

    def _states(self, jobs: Sequence[Job]) -> set[str]:
        scope = self.setting.scope
        rows = self.setting.table.filter(
            environment_id=scope.environment_id, cache=scope.cache, op_id=[job.job_id for job in jobs]
        )
        return set(rows.columns(["state"])["state"].to_pylist())

    def _look(self) -> None:
        self.setting = replace(self.setting, table=load_lut(self.setting.build.out))
        rows_ms = _rows_ms(self.setting, self._counts.ops)
        if not rows_ms:
            raise BuildError(
                f"{self.setting.build.out} has no op row with a number to begin with; build some: "
                "hwprof build-lut --limit 10"
            )
        points, values, ids = _networks(self.setting, self._points)
        self._tried |= set(ids)
        self._belief: Belief = believe(self._counts.ops, rows_ms, self._counts.of_points(points), values)

    def _seconds(self, job: Job) -> float:
        protocol = self._protocols[job.granularity == "network"]
        return expected_ms(job.lower(), protocol, 0.0) / 1e3


def _rows_ms(setting: Setting, ops: Sequence[OpSpec]) -> dict[OpSpec, float]:
    """Floors of the ops that have a row with a number."""
    scope = setting.scope
    rows = setting.table.filter(
        granularity="op", environment_id=scope.environment_id, cache=scope.cache,
        op_id=[op.op_id for op in ops],
    )  # fmt: skip
    found = {
        row["op_id"]: row["latency_ms"]
        for row, usable in zip(
            rows.columns(["op_id", "latency_ms"]).to_pylist(),
            rows.usable(allow_unstable=True),
            strict=True,
        )
        if usable
    }
    return {op: found[op.op_id] for op in ops if op.op_id in found}


def _networks(setting: Setting, points: Points) -> tuple[list[list[int]], Floats, tuple[str, ...]]:
    """Points, floors and ids of the measured networks."""
    scope = setting.scope
    rows: Lut = setting.table.filter(
        granularity="network", environment_id=scope.environment_id, cache=scope.cache,
        space=setting.space.name,
    )  # fmt: skip
    if not rows.usable().any():
        return [], np.zeros(0), ()
    found = read_measured(
        setting.table, setting.space, environment=scope.environment_id, cache=scope.cache, points=points
    )
    return found.points.tolist(), found.values, found.op_ids


def _drawn(space: Space, rng: np.random.Generator, count: int) -> list[tuple[int, ...]]:
    """Different points drawn uniformly, fewer where the space has not so many."""
    return list(dict.fromkeys(space.sample(rng) for _ in range(count)))
