"""References: which networks to measure on a new device, so that all others are predicted best.

Greedy I-optimal design (Fedorov 1972): the next network is the one that lowers the mean predictive
variance over the candidates the most. It takes what is known of other devices and no measurement of this
one, so that all references can be measured at once.
"""

from __future__ import annotations

import numpy as np

from hwprof.prediction.device_prior import DevicePrior
from hwprof.prediction.encoding import Floats, Integers
from hwprof.prediction.errors import PredictionError

OWN = 0.03
QUIETER = 0.1
"""Size of the device's own part, and its noise over that of the median source: by leaving one source out
on NAS-Bench-201 (benchmarks/nb201_transfer.py --protocol)."""
LEVEL_VARIANCE = 10.0


def choose_references(
    prior: DevicePrior,
    candidates: Floats,
    count: int,
    *,
    measured: Floats | None = None,
    own: float = OWN,
    quieter: float = QUIETER,
) -> Integers:
    """Places of `count` different candidates, in the order in which they are worth measuring.

    Args:
        candidates: (networks, columns) one-hot.
        measured: (networks, columns) one-hot of networks that are measured already.

    Raises:
        PredictionError: fewer candidates than asked for.
    """
    if count > len(candidates):
        raise PredictionError(
            f"{count} references were asked for, of {len(candidates)} networks; ask for fewer"
        )
    noise = quieter * prior.quiet
    known = candidates[:0] if measured is None else measured
    columns = prior.features.of_networks(np.vstack([known, candidates]))
    kernel = columns @ prior.covariance(own) @ columns.T + LEVEL_VARIANCE
    for place in range(len(known)):
        _measure(kernel, place, noise)
    left = kernel[len(known) :, len(known) :].copy()
    chosen: list[int] = []
    for _ in range(count):
        gain = np.einsum("ij,ij->i", left, left) / (left.diagonal() + noise)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        _measure(left, chosen[-1], noise)
    return np.array(chosen, dtype=np.int64)


def _measure(covariance: Floats, place: int, noise: float) -> None:
    """What is left of a covariance between networks once one of them is measured, in place."""
    shared = covariance[place].copy()
    covariance -= np.outer(shared, shared) / (shared[place] + noise)
