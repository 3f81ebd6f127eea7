"""TermModel: what each kernel costs, learnt from rows that run several kernels each.

A row's time is the run's overhead, a little for each unit, and its terms. A term costs what its FLOPs
and bytes cost for its kind on average (non-negative least squares over all rows), times a factor that
varies smoothly with its sizes: a Gaussian process over octaves (Rasmussen and Williams 2006, chapter 2),
one a kind, all of them inferred together from the rows' times (a row tells the sum of its terms). What a
row pays at its borders, such as a change of layout, is told apart from its kernel that way, since other
rows pay it in other proportions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import LutError
from hwprof.models.least_squares import non_negative
from hwprof.models.units import Term, Unit

Floats = NDArray[np.float64]

LEAST_ROWS = 8
ROUNDS = 3
MEAN_SD, WIDE_SD, WIDE_OCTAVES = 0.5, 0.4, 5.0
"""How far a kind may be from its average cost, and how that may change over its whole range."""
NEAR_SDS, NEAR_OCTAVES = (0.1, 0.2, 0.35), (0.7, 1.4, 2.8)
ROW_SDS = (0.01, 0.02, 0.04)
"""Candidates for the factor's variation nearby and a row's noise; leaving one row out chooses."""
CHOSEN_ON_ROWS = 500
MOST_ROWS = 2500
MOST_A_MS = 1e100
"""FLOPs or bytes in a millisecond beyond which sums of squares overflow."""
FASTEST_FLOPS, FASTEST_BYTES = 2e9, 2e8
"""A millisecond's work of a core that no row is faster than; keeps a cost above zero."""


@dataclass(frozen=True)
class Observation:
    """A row, split. `units` is how many of its units run a kernel."""

    label: str
    terms: tuple[Term, ...]
    units: int
    latency_ms: float

    @classmethod
    def of(cls, label: str, units: Sequence[Unit], latency_ms: float) -> Observation:
        running = [unit for unit in units if unit.terms]
        terms = tuple(term for unit in running for term in unit.terms)
        return cls(label, terms, len(running), latency_ms)


@dataclass(frozen=True)
class Setting:
    """How the factor varies, and how noisy a row is."""

    near_sd: float
    near_octaves: float
    row_sd: float


@dataclass(frozen=True)
class TermCosts:
    """Costs of some terms.

    Attributes:
        each_ms: expected.
        log_covariance: of their logarithms.
    """

    each_ms: Floats
    log_covariance: Floats


class TermModel:
    """Made by `fit`.

    Attributes:
        run_ms: overhead of a run; `unit_ms` of each unit.
        left_out: relative error of each row predicted without itself.
        left_out_sd: the estimate of that error.
        widening: what the estimates are multiplied with, so that they match the errors.
        kinds: kinds of terms that some row has.
    """

    def __init__(self, rows: Sequence[Observation]) -> None:
        """Fit on rows; more than `MOST_ROWS` are thinned out evenly.

        Raises:
            LutError: too few rows, or a row's latency is no time for what it does.
        """
        if len(rows) < LEAST_ROWS:
            raise LutError(
                f"{len(rows)} rows can be split into kernels, {LEAST_ROWS} is the least to predict "
                "from; build a table for it: hwprof build-lut --space general (--allow-unstable takes "
                "rows in that state too)"
            )
        if len(rows) > MOST_ROWS:
            picked = np.linspace(0, len(rows) - 1, MOST_ROWS).astype(int)
            rows = [rows[i] for i in picked]
        self.rows = tuple(rows)
        self._truth = np.array([row.latency_ms for row in rows])
        self._places: dict[Term, int] = {}
        for row in rows:
            for term in row.terms:
                self._places.setdefault(term, len(self._places))
        self._terms = list(self._places)
        self._counts = np.zeros((len(rows), len(self._terms)))
        for number, row in enumerate(rows):
            for term in row.terms:
                self._counts[number, self._places[term]] += 1.0
        self._by_kind = _grouped(self._terms)
        self._points = {
            kind: _octaves([self._terms[i] for i in at]) for kind, at in self._by_kind.items()
        }
        self._fit_base()
        self._base = self._base_ms(self._terms)
        self.setting = self._choose()
        self._infer(self.setting)
        self.kinds = frozenset(self._by_kind)

    def costs(self, terms: Sequence[Term]) -> TermCosts:
        """Costs of terms, also of ones that no row has."""
        logs = np.zeros(len(terms))
        covariance = np.zeros((len(terms), len(terms)))
        cross = np.zeros((len(terms), len(self.rows)))
        for kind, mine in _grouped(terms).items():
            points = _octaves([terms[i] for i in mine])
            covariance[np.ix_(mine, mine)] = self._kernel(points, points, self.setting)
            known = self._by_kind.get(kind)
            if known is not None:
                to_rows = self._kernel(points, self._points[kind], self.setting)
                cross[mine] = to_rows @ self._shares[:, known].T
        logs = cross @ self._weights
        covariance -= cross @ self._inverse @ cross.T
        each = self._base_ms(terms) * np.exp(logs)
        return TermCosts(each, covariance * self.widening**2)

    def exact_row(self, term: Term) -> str | None:
        """The row that is mostly this very term, if there is one."""
        place = self._places.get(term)
        if place is None:
            return None
        row = int(self._shares[:, place].argmax())
        return self.rows[row].label if self._shares[row, place] >= 0.5 else None

    def _fit_base(self) -> None:
        """Overheads, and cost of a FLOP and a byte of each kind, by relative error."""
        flops = np.array([term.flops for term in self._terms])
        moved = np.array([term.moved_bytes for term in self._terms])
        columns = [np.ones(len(self.rows)), np.array([float(row.units) for row in self.rows])]
        for at in self._by_kind.values():
            columns += [self._counts[:, at] @ flops[at], self._counts[:, at] @ moved[at]]
        with np.errstate(over="ignore"):
            matrix = np.stack(columns, axis=1) / self._truth[:, None]
        if len(wrong := np.flatnonzero(matrix.max(axis=1) > MOST_A_MS)):
            row = self.rows[int(wrong[0])]
            raise LutError(
                f"row {row.label} says {row.latency_ms:g} ms, which is no time for what it does; look "
                "for such rows: hwprof lut lint"
            )
        weights = non_negative(matrix, np.ones(len(self.rows)))
        self.run_ms, self.unit_ms = float(weights[0]), float(weights[1])
        pairs = weights[2:].reshape(-1, 2)
        self._rates = {kind: pairs[number] for number, kind in enumerate(self._by_kind)}

    def _base_ms(self, terms: Sequence[Term]) -> Floats:
        least = [t.flops / FASTEST_FLOPS + t.moved_bytes / FASTEST_BYTES for t in terms]
        rates = [self._rates.get(t.kind, np.zeros(2)) for t in terms]
        fitted = [r[0] * t.flops + r[1] * t.moved_bytes for r, t in zip(rates, terms, strict=True)]
        return np.maximum(np.array(fitted, dtype=np.float64), np.array(least, dtype=np.float64))

    def _choose(self) -> Setting:
        """The setting under which rows that are left out are likeliest; on some of the rows."""
        count = min(len(self.rows), CHOSEN_ON_ROWS)
        picked = np.linspace(0, len(self.rows) - 1, count).astype(int)
        overhead = self.run_ms + self.unit_ms * np.array([row.units for row in self.rows])
        each = self._counts * self._base
        total = overhead + each.sum(axis=1)
        shares = (each / total[:, None])[picked]
        target = np.log(self._truth / total)[picked]
        best: tuple[float, Setting] | None = None
        for near_octaves in NEAR_OCTAVES:
            for near_sd in NEAR_SDS:
                quiet = Setting(near_sd, near_octaves, 0.0)
                covariance = self._row_covariance(shares, quiet)
                for row_sd in ROW_SDS:
                    inverse = np.linalg.inv(covariance + row_sd**2 * np.eye(count))
                    variance = 1.0 / np.diag(inverse)
                    missed = (inverse @ target) * variance
                    score = float((np.log(variance) + missed**2 / variance).sum())
                    if best is None or score < best[0]:
                        best = (score, Setting(near_sd, near_octaves, row_sd))
        assert best is not None
        return best[1]

    def _infer(self, setting: Setting) -> None:
        """The factors of all terms: a row's logarithm is made linear in theirs, a few times over."""
        overhead = self.run_ms + self.unit_ms * np.array([row.units for row in self.rows])
        logs = np.zeros(len(self._terms))
        for _ in range(ROUNDS):
            each = self._counts * (self._base * np.exp(logs))
            total = overhead + each.sum(axis=1)
            shares = each / total[:, None]
            target = np.log(self._truth / total) + shares @ logs
            covariance = self._row_covariance(shares, setting)
            inverse = np.linalg.inv(covariance + setting.row_sd**2 * np.eye(len(self.rows)))
            weights = inverse @ target
            for kind, at in self._by_kind.items():
                points = self._points[kind]
                logs[at] = self._kernel(points, points, setting) @ (shares[:, at].T @ weights)
        self._shares, self._inverse, self._weights = shares, inverse, weights
        variance = 1.0 / np.diag(inverse)
        self.left_out = -np.expm1(weights * variance)
        self.widening = max(1.0, float(np.sqrt(np.mean(weights**2 * variance))))
        self.left_out_sd = np.sqrt(variance) * self.widening

    def _row_covariance(self, shares: Floats, setting: Setting) -> Floats:
        """Of the logarithms of the rows that `shares` is about, but for their noise."""
        covariance = np.zeros((len(shares), len(shares)))
        for kind, at in self._by_kind.items():
            part = shares[:, at]
            seen = np.flatnonzero(part.any(axis=0))
            points = self._points[kind][seen]
            covariance += part[:, seen] @ self._kernel(points, points, setting) @ part[:, seen].T
        return covariance

    @staticmethod
    def _kernel(left: Floats, right: Floats, setting: Setting) -> Floats:
        square = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=2)
        near = setting.near_sd**2 * np.exp(-0.5 * square / setting.near_octaves**2)
        wide = WIDE_SD**2 * np.exp(-0.5 * square / WIDE_OCTAVES**2)
        found: Floats = MEAN_SD**2 + wide + near
        return found


def _grouped(terms: Sequence[Term]) -> dict[str, NDArray[np.int_]]:
    """Places of the terms of each kind."""
    places: dict[str, list[int]] = {}
    for place, term in enumerate(terms):
        places.setdefault(term.kind, []).append(place)
    return {kind: np.array(found) for kind, found in places.items()}


def _octaves(terms: Sequence[Term]) -> Floats:
    found: Floats = np.log2(np.array([term.sizes for term in terms], dtype=np.float64))
    return found
