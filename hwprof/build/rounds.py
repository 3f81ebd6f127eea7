"""The order of visits: worker processes take turns, each turn is some shuffled rounds over the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hwprof.build.record import Records, RowRecord
from hwprof.measure.judgement import RecordedVisit, disagreement, sentinel_floors
from hwprof.measure.messages import Visit, VisitRequest
from hwprof.measure.protocol import Protocol


class Rounds:
    """One pass over some rows.

    Process 1 makes a shuffled round over all rows, then process 2, ..., then process 1 again. Whenever
    every process has made as many rounds, rows whose visits agree drop out.
    """

    def __init__(
        self, protocol: Protocol, records: Records, rows: Sequence[RowRecord], seed: int, phase: int
    ) -> None:
        self._protocol = protocol
        self._active = list(rows)
        self._records = records
        self._seed = seed
        self._first_process = records.next_process
        self.phase = phase
        self._order = np.random.default_rng([seed, phase, self._first_process])
        self._agreed: list[RowRecord] = []
        self.disagreeing = 0
        self.visits_left = len(rows) * protocol.most_visits

    def visits(self, cache: str) -> Iterator[tuple[RowRecord, int, VisitRequest, int]]:
        """(row, process, request, round number), the caller recording each visit before the next."""
        protocol = self._protocol
        for number in range(protocol.rounds):
            for process in range(self._first_process, self._first_process + protocol.processes):
                for position in self._order.permutation(len(self._active)):
                    row = self._active[position]
                    self.visits_left -= 1
                    if row.failure is None:
                        yield row, process, self._request(row, cache, process, number), number
            if number + 1 >= protocol.least_rounds:
                self._drop()
            self.visits_left = len(self._active) * protocol.processes * (protocol.rounds - number - 1)

    def recorded(self, process: int, number: int, visit: Visit) -> RecordedVisit:
        return RecordedVisit(process, number, self.phase, visit)

    def newly_agreed(self) -> list[RowRecord]:
        """Rows whose visits have come to agree since the last call."""
        agreed, self._agreed = self._agreed, []
        return agreed

    def _drop(self) -> None:
        still = []
        floors = sentinel_floors(self._records.visits())
        self.disagreeing = 0
        for row in self._active:
            if row.failure is not None:
                continue
            if not disagreement(self._protocol, row.visits, row.dense, floors):
                self._agreed.append(row)
                continue
            self.disagreeing += 1
            still.append(row)
        self._active = still

    def _request(self, row: RowRecord, cache: str, process: int, number: int) -> VisitRequest:
        assert row.compiled is not None
        protocol = self._protocol
        return VisitRequest(
            artifact=row.compiled.artifact,
            seed=(self._seed, process, number, int(row.job.job_id[:8], 16)),
            cache=cache,
            visit_ms=protocol.visit_ms,
            least_calls=protocol.least_calls,
            group_ms=protocol.group_ms,
            warm_calls=protocol.warm_calls,
        )
