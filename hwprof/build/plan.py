"""Plan: which ops of a space still need measuring for this environment, and about how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwprof.backends import load_backend
from hwprof.build.options import BuildOptions
from hwprof.build.record import UNFINISHED_REASONS
from hwprof.environment import Environment, environment
from hwprof.graph import cost
from hwprof.lut import Lut, check_destination, load_lut
from hwprof.measure.executor import described
from hwprof.measure.messages import Job
from hwprof.measure.protocol import Protocol
from hwprof.measure.visit import COLD_CALLS
from hwprof.ops import OpSpec
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
        jobs: ops to measure, in the space's order.
        ops: how many ops the space has.
        present: ops of the space whose row is there already.
        other_environments: rows of the table that were measured elsewhere, by environment id.
    """

    space: Space
    environment: Environment
    jobs: tuple[Job, ...]
    ops: int
    present: int
    other_environments: Mapping[str, int]
    expected_minutes: float

    def summary(self) -> dict[str, Any]:
        return {
            "space": self.space.name,
            "ops": self.ops,
            "present": self.present,
            "to_measure": len(self.jobs),
            "expected_minutes": round(self.expected_minutes, 2),
            "environment_id": self.environment.environment_id,
            "other_environments": dict(self.other_environments),
        }


def make_plan(options: BuildOptions) -> Plan:
    """Compare the space with the table under `options.out`. Writes nothing.

    Raises:
        HwprofError: an option, the space, the backend or the existing table is unusable.
    """
    options.check()
    check_destination(options.out)
    space = load_space(options.space).with_options(batch=options.batch, dtype=options.dtype)
    here = _environment(options)
    table = load_lut(options.out) if options.out.exists() else None
    present, elsewhere = _present(table, here.environment_id, options)
    ops = space.ops()
    wanted = [op for op in ops if options.fresh or op.op_id not in present]
    if options.limit is not None:
        wanted = wanted[: options.limit]
    jobs = tuple(Job((op,)) for op in wanted)
    there = sum(op.op_id in present for op in ops) if not options.fresh else 0
    sweep_ms = 0.0 if options.cache == "warm" else GUESSED_SWEEP_MS
    minutes = sum(expected_ms(op, options.protocol(), sweep_ms) for op in wanted) / 60_000
    if options.budget_s is not None:
        minutes = min(minutes, options.budget_s / 60)
    return Plan(space, here, jobs, len(ops), there, elsewhere, minutes)


def _environment(options: BuildOptions) -> Environment:
    backend, target = load_backend(options.backend), options.full_target()
    if options.python is None:
        runtime = dict(backend.environment(target))
    else:
        runtime = described(options.backend, target, options.python)
    if options.sustain_s:
        runtime |= {"regime": options.regime, "sustain_s": options.sustain_s}
    remote = backend.device(target) == "remote"
    return environment(runtime, target.name, options.threads, remote=remote)


def _present(
    table: Lut | None, environment_id: str, options: BuildOptions
) -> tuple[frozenset[str], dict[str, int]]:
    """Op ids with a row that counts, and row counts of other environments."""
    if table is None:
        return frozenset(), {}
    columns = ["op_id", "environment_id", "granularity", "cache", "state", "reason"]
    done: set[str] = set()
    elsewhere: dict[str, int] = {}
    for row in table.table.select(columns).to_pylist():
        if row["environment_id"] != environment_id:
            elsewhere[row["environment_id"]] = elsewhere.get(row["environment_id"], 0) + 1
            continue
        if row["granularity"] != "op" or row["cache"] != options.cache:
            continue
        unfinished = (row["reason"] or "").startswith(UNFINISHED_REASONS)
        retried = options.retry_failed and row["state"] in RETRIED_STATES
        if not unfinished and not retried:
            done.add(row["op_id"])
    return frozenset(done), elsewhere


def expected_ms(op: OpSpec, protocol: Protocol, sweep_ms: float) -> float:
    """Rough wall time of measuring one op: most rows need between the least and the most visits."""
    call_ms = cost(op.lower()).flops / GUESSED_FLOPS_PER_MS
    timed_ms = max(protocol.visit_ms, protocol.least_calls * call_ms)
    visit_ms = timed_ms + protocol.warm_calls * call_ms + COLD_CALLS * sweep_ms + GUESSED_OVERHEAD_MS
    visits = (
        0.5 * (protocol.least_visits + protocol.most_visits) * (1.3 if protocol.second_pass else 1.0)
    )
    return visits * visit_ms + GUESSED_COMPILE_MS
