"""The journal of a build: taken up where an earlier build of the same kind stopped, or begun."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hwprof import __version__
from hwprof.build.options import BuildOptions
from hwprof.build.plan import Plan, Planner
from hwprof.build.record import Records
from hwprof.build.seal import header_of, seal
from hwprof.errors import LutError
from hwprof.lut.journal import Journal
from hwprof.measure.protocol import Protocol

JOURNAL = "journal"


@contextmanager
def open_records(
    options: BuildOptions, folder: Path, note: Callable[[str], None], planner: Planner
) -> Iterator[tuple[Records, dict[str, Any], Plan]]:
    """Records to go on with, the header they are sealed with, and the plan made under the lock.

    A journal of another environment, space or setting is sealed first, under what it was made with and
    its unfinished rows as such, so that nothing measured is lost or mixed. `note` is told what is
    reused or left out.

    Raises:
        BuildError: another process writes this journal.
        LutError: the journal is unreadable (left as it is, unless `--fresh`) or the disk refused.
    """
    path = folder / JOURNAL
    if path.exists() and path.stat().st_size:
        journal, header, past, damaged = _open(options, path, note)
        if journal is not None:
            with journal:
                if damaged:
                    note(f"{path}: {len(damaged)} damaged lines are left out (first: line {damaged[0]})")
                records = Records(journal, past)
                plan = planner(options)
                if _same_build(header, _chosen(options, plan)):
                    _reset_failures(options, plan, records)
                    rows = records.rows.values()
                    visits = sum(1 for _ in records.visits())
                    done = sum(row.finished for row in rows)
                    note(f"resuming: {visits} visits of {len(rows)} rows reused, {done} rows finished")
                    yield records, header, plan
                    return
                note("an unfinished build of another environment, space or setting is sealed first")
                seal(options.out, records, header, _protocol_of(path, header), "interrupted")
            Journal.discard(path)
    # An empty file is what a kill before the header leaves; Journal.create takes it over.
    plan = planner(options)
    for environment_id, rows_there in plan.other_environments.items():
        note(f"{options.out}: {rows_there} rows of environment {environment_id} are kept, not mixed in")
    header = header_of(uuid.uuid4().hex[:12], plan.environment, _chosen(options, plan))
    with Journal.create(path, header) as journal:
        yield Records(journal), header, planner(options)


def _open(
    options: BuildOptions, path: Path, note: Callable[[str], None]
) -> tuple[Journal | None, dict[str, Any], tuple[dict[str, Any], ...], tuple[int, ...]]:
    """The journal, or None where `--fresh` discarded one that cannot be read."""
    try:
        return Journal.open(path)
    except LutError as error:
        if not options.fresh:
            raise
        note(f"discarded: {error}")
        Journal.discard(path)
        return None, {}, (), ()


def _chosen(options: BuildOptions, plan: Plan) -> dict[str, Any]:
    """What makes two builds the same: rows of one may go on as rows of the other."""
    return {
        "backend": options.backend,
        "target": options.resolved_target(),
        "regime": options.regime,
        "threads": options.threads,
        "batch": options.batch,
        "dtype": options.dtype,
        "cache": options.cache,
        "space": plan.space.name,
        "space_hash": plan.space.space_hash,
        "fresh": options.fresh,
        "protocol": asdict(plan.protocol),
        "work": plan.work,
        "environment_id": plan.environment.environment_id,
        "hwprof_version": __version__,
    }


def _same_build(header: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    return all(header.get(name) == value for name, value in chosen.items())


def _reset_failures(options: BuildOptions, plan: Plan, records: Records) -> None:
    if options.retry_failed:
        for job in plan.jobs:
            row = records.rows.get(job.job_id)
            if row is not None and row.failure is not None:
                records.reset(row)


def _protocol_of(path: Path, header: Mapping[str, Any]) -> Protocol:
    try:
        return Protocol(**header["protocol"])
    except (KeyError, TypeError):
        raise LutError(
            f"{path} was made by hwprof {header.get('hwprof_version')} with other settings than this "
            "version knows; finish it with that version, or move it away"
        ) from None
