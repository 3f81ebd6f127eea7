"""Candidates: networks near the one that the gates ended at, scored with the supernet's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from hwprof.search.data import Batches, Splits, evaluation_batches
from hwprof.search.evolution import evolve
from hwprof.search.expected_latency import ExpectedLatency
from hwprof.search.supernet import Supernet, correct_predictions, recalibrate
from hwprof.space import Space

Point = tuple[int, ...]

# Batches that a network's BatchNorm statistics are taken over before it is scored.
RECALIBRATION_BATCHES = 4


@dataclass(frozen=True)
class Scored:
    """A network of the space with its validation accuracy under the supernet's weights."""

    point: Point
    accuracy: float
    latency_ms: float


@dataclass(frozen=True)
class SearchedSpace:
    """The part of a space that a supernet searches: choices without SE and with the first activation.

    Attributes:
        space: the part, a space of its own.
        choices: of each position, the index in the whole space of each choice of the part.
    """

    space: Space
    choices: tuple[tuple[int, ...], ...]

    def whole(self, point: Sequence[int]) -> Point:
        """A point of the part as one of the whole space."""
        return tuple(of[index] for of, index in zip(self.choices, point, strict=True))

    def part(self, point: Sequence[int]) -> Point:
        """A point of the whole space as one of the part.

        Raises:
            ValueError: it is not in it.
        """
        return tuple(of.index(index) for of, index in zip(self.choices, point, strict=True))


def searched_space(space: Space) -> SearchedSpace:
    """The choices that a supernet searches; see `Supernet`."""
    kept = []
    for position in space.positions:
        plain = [i for i, c in enumerate(position.choices) if not any(op.se_channels for op in c.ops)]
        first = next(c.ops[0].activation for c in position.choices if c.ops)
        kept.append(
            tuple(
                index
                for index in plain
                if not position.choices[index].ops or position.choices[index].ops[0].activation == first
            )
        )
    positions = tuple(
        replace(position, choices=tuple(position.choices[i] for i in indices))
        for position, indices in zip(space.positions, kept, strict=True)
    )
    return SearchedSpace(replace(space, positions=positions), tuple(kept))


def slowest_searched(space: Space, latencies: Tensor) -> Point:
    """The network of the slowest choices that a supernet searches; `latencies` by position, choice."""
    return tuple(
        max(kept, key=lambda choice: float(row[choice]))
        for row, kept in zip(latencies, searched_space(space).choices, strict=True)
    )


def score_candidates(
    supernet: Supernet,
    splits: Splits,
    latency: ExpectedLatency,
    bounds_ms: tuple[float, float],
    *,
    count: int,
    batch_size: int,
    seed: int,
) -> Iterator[Scored]:
    """Networks within the bounds, found by evolution from the one that the thresholds say, as they are
    scored on the validation images; none where evolution meets none."""
    searched = searched_space(supernet.space)
    calibration = Batches(splits.train, splits.normalisation, batch_size, seed=seed)
    batches = [calibration.at(step) for step in range(RECALIBRATION_BATCHES)]

    def accuracy(point: Point) -> float:
        states = supernet.states_of(searched.whole(point))
        recalibrate(supernet, batches, run=lambda images: supernet(images, states=states))
        held_out = evaluation_batches(splits.validation, splits.normalisation)
        right = correct_predictions(
            supernet, held_out, run=lambda images: supernet(images, states=states)
        )
        return float(right.float().mean())

    def latencies_ms(points: Sequence[Point]) -> Sequence[float]:
        found: list[float] = latency.price([searched.whole(point) for point in points]).tolist()
        return found

    low, high = bounds_ms
    scored = evolve(
        searched.space,
        accuracy,
        latencies_ms,
        high,
        least=low,
        seed=seed,
        population=max(4, count // 4),
        sample=max(2, count // 12),
        evaluations=count,
        start=[searched.part(supernet.point())],
    )
    for one in scored:
        yield Scored(searched.whole(one.point), one.score, one.latency)
