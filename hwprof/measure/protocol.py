"""Protocol: how many visits, processes and milliseconds a row gets, and when it has enough."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwprof.errors import BuildError


@dataclass(frozen=True)
class Protocol:
    """One setting of the measurement (measurement notes, section 4).

    Attributes:
        visit_ms: timed milliseconds of one visit.
        least_calls: a visit times at least so many calls (or groups of calls).
        group_ms: calls shorter than this are timed in groups that last as long.
        warm_calls: calls before the clock starts, not counted.
        processes: worker processes a row is visited by; they take turns.
        agreeing: so many of the processes' floors must agree. Noise only adds, so the processes with
            the highest floors say nothing; but a floor that a single process saw may be luck.
        rounds: most rounds of each process; a round visits every row once. Processes alternate round
            by round, so that the visits of each span the whole pass.
        least_rounds: rounds of each process before a row can stop.
        rel_precision: floors of halves of the visits, and of processes, must agree within this.
        second_pass: rows that do not agree get as many visits again, in new processes, later.
        twice: all rows get the second pass: two measurements of each, apart in time and processes.
    """

    visit_ms: float = 6.0
    least_calls: int = 5
    group_ms: float = 0.02
    warm_calls: int = 3
    processes: int = 6
    agreeing: int = 3
    rounds: int = 12
    least_rounds: int = 8
    rel_precision: float = 0.01
    second_pass: bool = True
    twice: bool = False

    @property
    def most_visits(self) -> int:
        """Visits a row gets at most in one pass."""
        return self.processes * self.rounds

    @property
    def least_visits(self) -> int:
        """Visits a row gets before it can stop."""
        return self.processes * self.least_rounds

    def for_networks(self) -> Protocol:
        """The protocol for whole networks: a quarter of the rounds, since a visit takes 0.3 s where that
        of an op takes 15 ms, but all of them twice, so that a prediction's error can be held against
        the measurement's own."""
        rounds = max(3, self.rounds // 4)
        least = max(2, self.least_rounds // 4)
        return replace(self, rounds=rounds, least_rounds=least, second_pass=True, twice=True)

    def within(self, row_ms: float) -> Protocol:
        """The same protocol with as many rounds as fit into `row_ms` of wall time a row.

        A visit costs about twice its timed part. Two rounds a process and no second pass is the least.
        """
        visits = row_ms / (2.0 * self.visit_ms)
        if visits >= 2 * self.most_visits:
            return self
        rounds = min(self.rounds, max(2, int(visits / self.processes)))
        least = min(self.least_rounds, max(2, rounds // 2))
        return replace(self, rounds=rounds, least_rounds=least, second_pass=False)


EFFORTS = {
    "fast": Protocol(processes=3, agreeing=2, rounds=6, least_rounds=4, second_pass=False),
    "normal": Protocol(),
    "rigorous": Protocol(processes=8, agreeing=4, rounds=24, least_rounds=12),
}


def protocol(effort: str, rel_precision: float | None = None) -> Protocol:
    """The protocol of an effort, with its precision replaced where given.

    Raises:
        BuildError: an unknown effort or a precision outside (0, 0.5].
    """
    if effort not in EFFORTS:
        raise BuildError(f"effort {effort!r} is unknown; choose of {', '.join(EFFORTS)}")
    chosen = EFFORTS[effort]
    if rel_precision is None:
        return chosen
    if not 0.0 < rel_precision <= 0.5:
        raise BuildError(f"rel-precision {rel_precision} is not in (0, 0.5]; 0.01 is one percent")
    return replace(chosen, rel_precision=rel_precision)
