"""What other devices tell of a new one: a prior over what its networks cost, learned from theirs.

Each known device is a linear function of the features, denoised by a ridge and scaled to a spread of 1.
Their second moment is the prior's covariance: a new device is a mixture of the known ones (hierarchical
linear model, empirical Bayes; Gelman et al., Bayesian Data Analysis, chapter 5), plus a part of its own
that is small and spread over all columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.prediction.encoding import Floats
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.features import Features
from hwprof.prediction.predictor import Predictor

PENALTIES = np.geomspace(0.01, 30.0, 8)
LEAST_SOURCE_NETWORKS = 20
LEAST_NOISE = 1e-6


@dataclass(frozen=True)
class Source:
    """A known device.

    Attributes:
        weights: (features,) of the function, whose variance over the pool is 1.
        noise: variance of a measurement around it, as a share of the function's.
        networks: how many it was fitted on; 0 for a predictor's values.
    """

    name: str
    weights: Floats
    noise: float
    networks: int


def source_of_networks(features: Features, name: str, one_hot: Floats, values: Floats) -> Source:
    """From measured networks: ridge, its penalty chosen by leaving one network out.

    Args:
        one_hot: (networks, columns). values: (networks,).

    Raises:
        PredictionError: fewer than 20 networks, or values that are all alike.
    """
    if len(values) < LEAST_SOURCE_NETWORKS:
        raise PredictionError(
            f"source {name} has {len(values)} measured networks, {LEAST_SOURCE_NETWORKS} is the least; "
            "measure more of them: hwprof validate TABLE --networks 100"
        )
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise PredictionError(f"source {name} has the same value for all networks; leave it out")
    weights, error = _ridge(features.of_networks(one_hot), values)
    return _scaled(features, name, weights, error, len(values))


def source_of_predictor(features: Features, name: str, predictor: Predictor) -> Source:
    """From a predictor, by its values on the pool.

    Raises:
        PredictionError: it is of another space, or the same everywhere.
    """
    theirs, ours = predictor.encoding, features.encoding
    if (theirs.positions, theirs.choices) != (ours.positions, ours.choices):
        raise PredictionError(
            f"source {name} is of space {theirs.space}, the target of {ours.space}, and their choices "
            "differ; give sources of the same space"
        )
    return source_of_values(features, name, predictor.member.predict(features.pool))


def source_of_values(features: Features, name: str, values: Floats) -> Source:
    """From what is predicted for the networks of the pool.

    Raises:
        PredictionError: it is the same everywhere.
    """
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise PredictionError(f"source {name} predicts the same for all networks; leave it out")
    weights, error = _ridge(features.of_networks(features.pool), values)
    return _scaled(features, name, weights, error, 0)


@dataclass(frozen=True)
class DevicePrior:
    """Covariance over the weights of a new device's function, in units of its spread.

    Attributes:
        directions: (directions, features), each of variance 1 over the pool, uncorrelated there.
        strengths: (directions,) variance along each; they sum to 1.
        quiet: variance of a measurement of the median source, a share of its spread.
    """

    features: Features
    sources: tuple[Source, ...]
    directions: Floats
    strengths: Floats
    quiet: float

    def covariance(self, own: float) -> Floats:
        """(features, features). `own` is the variance of the part that no source has."""
        shared = self.directions.T @ (self.strengths[:, None] * self.directions)
        metric = self.features.metric
        return np.asarray(shared + np.eye(len(metric)) * (own / np.trace(metric)))


def device_prior(features: Features, sources: Sequence[Source]) -> DevicePrior:
    """Raises PredictionError without sources."""
    if not sources:
        raise PredictionError("transfer takes at least one source: a table or a predictor's folder")
    weights = np.stack([source.weights for source in sources])
    moment = weights @ features.metric @ weights.T / len(sources)
    strengths, mixes = np.linalg.eigh(moment)
    kept = strengths > 1e-9
    scale = np.sqrt(len(sources) * strengths[kept])
    return DevicePrior(
        features,
        tuple(sources),
        (mixes[:, kept].T @ weights) / scale[:, None],
        strengths[kept],
        float(np.median([source.noise for source in sources])),
    )


def _scaled(features: Features, name: str, weights: Floats, error: float, networks: int) -> Source:
    variance = float(weights @ features.metric @ weights)
    if variance <= 0.0:
        raise PredictionError(f"source {name} tells nothing of its networks' differences; leave it out")
    noise = max(LEAST_NOISE, error / variance)
    return Source(name, weights / np.sqrt(variance), noise, networks)


def _ridge(columns: Floats, values: Floats) -> tuple[Floats, float]:
    """Weights, and the mean squared error of each network left out."""
    centred, aim = columns - columns.mean(0), values - values.mean()
    left, spread, right = np.linalg.svd(centred, full_matrices=False)
    shares = left.T @ aim
    best: tuple[float, Floats] | None = None
    for penalty in PENALTIES:
        shrunk = spread**2 / (spread**2 + penalty)
        leverage = (left**2) @ shrunk + 1.0 / len(values)
        missed = (aim - left @ (shrunk * shares)) / np.maximum(1.0 - leverage, 1e-9)
        error = float((missed**2).mean())
        if best is None or error < best[0]:
            best = (error, right.T @ (spread / (spread**2 + penalty) * shares))
    assert best is not None
    return best[1], best[0]
