"""Relaxed architectures to train on, and how far a member's value on them is from the mean that it
should be."""

from __future__ import annotations

import numpy as np

from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.predictor import Member

CONCENTRATIONS = (0.1, 10.0)
"""Dirichlet concentration, drawn log-uniformly: from nearly one choice to nearly all alike."""
FLOOR = 0.05
GAP_MIXES, GAP_NETWORKS = 64, 1024


def middle_of(encoding: Encoding, one_hot: Floats) -> Floats:
    """(columns,): how often networks take each choice, none of them never."""
    found = one_hot.mean(axis=0)
    widths = np.array([encoding.widths[place] for place in encoding.chosen])[encoding.position_of]
    return np.asarray((1.0 - FLOOR) * found + FLOOR / widths)


def random_mixes(encoding: Encoding, middle: Floats, count: int, rng: np.random.Generator) -> Floats:
    """(count, columns): probabilities around those of the networks at hand, so that networks drawn from
    them are of their kind (a cell has as many open edges); how sharp differs from one to the next."""
    low, high = np.log(CONCENTRATIONS)
    sharpness = np.exp(rng.uniform(low, high, count))
    made = np.empty((count, encoding.columns))
    for start, place in zip(encoding.starts, encoding.chosen, strict=True):
        width = encoding.widths[place]
        # Of very small concentrations all draws can underflow to 0: the smallest float keeps the sum.
        shape = sharpness[:, None] * width * middle[start : start + width]
        drawn = rng.standard_gamma(shape) + 1e-300
        made[:, start : start + width] = drawn / drawn.sum(-1, keepdims=True)
    return made


def relaxation_gap(member: Member, encoding: Encoding, one_hot: Floats, seed: int) -> float:
    """Mean of |f(p) - E f| / E f over 64 random p, E f by 1,024 networks drawn from each; the error of
    that mean is in it.

    Args:
        one_hot: the networks that the member was fitted on.
    """
    import torch

    rng = np.random.default_rng([seed, 3])
    mixes = random_mixes(encoding, middle_of(encoding, one_hot), GAP_MIXES, rng)
    with torch.no_grad():
        relaxed = member.expected(torch.from_numpy(mixes)).numpy()
    means = np.array(
        [member.predict(encoding.sampled(mix[None], GAP_NETWORKS, rng)[0]).mean() for mix in mixes]
    )
    return float((np.abs(relaxed - means) / means).mean())
