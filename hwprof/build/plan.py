"""Plan: which jobs still need measuring for this environment, and about how long it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwprof.backends import load_backend
from hwprof.build.options import BuildOptions
from hwprof.build.record import UNFINISHED_REASONS
from hwprof.environment import Environment, environment
from hwprof.graph import Graph, cost
from hwprof.lut import Lut, check_destination, load_lut
from hwprof.machine.nvml import gpu_identity
from hwprof.measure.executor import described
from hwprof.measure.messages import Job
from hwprof.measure.protocol import Protocol
from hwprof.measure.visit import COLD_CALLS
from hwprof.space import Space, load_space

RETRIED_STATES = ("failed", "timeout", "unstable")
GUESSED_FLOPS_PER_MS = 5e7
GUESSED_OVERHEAD_MS = 5.0
GUESSED_COMPILE_MS = 20.0
GUESSED_SWEEP_MS = 10.0


@dataclass(frozen=True)
class Plan:
    """What a build will do.

    Attributes:
        jobs: what to measure, in this order.
        wanted: how many jobs were asked for.
        present: of those, how many have their row already.
        other_environments: rows of the table that were measured elsewhere, by environment id.
    """

    space: Space
    environment: Environment
    jobs: tuple[Job, ...]
    wanted: int
    present: int
    other_environments: Mapping[str, int]
    expected_minutes: float
    protocol: Protocol
    work: str = "ops"
    """What a resumed build must have been about: the space's ops, or a hash of other jobs."""

    def summary(self) -> dict[str, Any]:
        return {
            "space": self.space.name,
            "ops": self.wanted,
            "present": self.present,
            "to_measure": len(self.jobs),
            "expected_minutes": round(self.expected_minutes, 2),
            "environment_id": self.environment.environment_id,
            "other_environments": dict(self.other_environments),
        }


Planner = Callable[[BuildOptions], Plan]


def make_plan(options: BuildOptions) -> Plan:
    """Compare the space with the table under `options.out`. Writes nothing.

    Raises:
        HwprofError: an option, the space, the backend or the existing table is unusable.
    """
    options.check()
    space = load_space(options.space).with_options(batch=options.batch, dtype=options.dtype)
    return _plan(options, space, [Job((op,)) for op in space.ops()], options.protocol(), "ops")


def plan_of(space: Space, jobs: Sequence[Job], protocol: Protocol) -> Planner:
    """A planner for jobs of one's own: networks, pairs of neighbours, some ops once more.

    It raises as `make_plan`.
    """
    work = hashlib.sha256(",".join(f"{job.granularity}:{job.job_id}" for job in jobs).encode())

    def plan(options: BuildOptions) -> Plan:
        options.check()
        return _plan(options, space, jobs, protocol, work.hexdigest()[:16])

    return plan


def _plan(
    options: BuildOptions, space: Space, jobs: Sequence[Job], protocol: Protocol, work: str
) -> Plan:
    check_destination(options.out)
    here = environment_of(options)
    table = load_lut(options.out) if options.out.exists() else None
    present, elsewhere = _present(table, here.environment_id, options)
    if options.fresh:
        present = frozenset()
    missing = [job for job in jobs if (job.granularity, job.job_id) not in present]
    chosen = tuple(missing[: options.limit])
    sweep_ms = 0.0 if options.cache == "warm" else GUESSED_SWEEP_MS
    minutes = sum(expected_ms(job.lower(), protocol, sweep_ms) for job in chosen) / 60_000
    if options.budget_s is not None:
        minutes = min(minutes, options.budget_s / 60)
    there = len(jobs) - len(missing)
    return Plan(space, here, chosen, len(jobs), there, elsewhere, minutes, protocol, work)


def environment_of(options: BuildOptions) -> Environment:
    """Where a build with these options would measure. Raises as `make_plan`."""
    backend, target = load_backend(options.backend), options.full_target()
    if options.python is None:
        runtime = dict(backend.environment(target))
    else:
        runtime = described(options.backend, target, options.python)
    runtime = {**backend.compiler(target), **runtime}
    device = backend.device(target)
    if device.startswith("cuda:"):
        runtime = {**gpu_identity(int(device[5:])), **runtime}
    if options.sustain_s:
        runtime |= {"regime": options.regime, "sustain_s": options.sustain_s}
    return environment(runtime, target.name, options.threads, remote=device == "remote")


def _present(
    table: Lut | None, environment_id: str, options: BuildOptions
) -> tuple[frozenset[tuple[str, str]], dict[str, int]]:
    """(granularity, id) of rows that count, and row counts of other environments."""
    if table is None:
        return frozenset(), {}
    columns = ["op_id", "environment_id", "granularity", "cache", "state", "reason"]
    done: set[tuple[str, str]] = set()
    elsewhere: dict[str, int] = {}
    for row in table.table.select(columns).to_pylist():
        if row["environment_id"] != environment_id:
            elsewhere[row["environment_id"]] = elsewhere.get(row["environment_id"], 0) + 1
            continue
        if row["cache"] != options.cache:
            continue
        unfinished = (row["reason"] or "").startswith(UNFINISHED_REASONS)
        retried = options.retry_failed and row["state"] in RETRIED_STATES
        if not unfinished and not retried:
            done.add((row["granularity"], row["op_id"]))
    return frozenset(done), elsewhere


def expected_ms(graph: Graph, protocol: Protocol, sweep_ms: float) -> float:
    """Rough wall time of measuring one job: most rows need between the least and the most visits."""
    call_ms = cost(graph).flops / GUESSED_FLOPS_PER_MS
    timed_ms = max(protocol.visit_ms, protocol.least_calls * call_ms)
    visit_ms = timed_ms + protocol.warm_calls * call_ms + COLD_CALLS * sweep_ms + GUESSED_OVERHEAD_MS
    passes = 2.0 if protocol.twice else 1.3 if protocol.second_pass else 1.0
    visits = 0.5 * (protocol.least_visits + protocol.most_visits) * passes
    return visits * visit_ms + GUESSED_COMPILE_MS
