"""Posterior of a new device: the prior held against its measured networks.

value = level + scale x (features @ weights) + noise, with weights of the prior's covariance. How large
the device's own part and its noise are is not known: a grid of both is weighted by how likely it makes
what was measured (marginal likelihood, level and scale integrated out: Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, sections 2.7 and 5.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hwprof.prediction.device_prior import DevicePrior
from hwprof.prediction.encoding import Floats

OWN = (0.001, 0.003, 0.01, 0.03, 0.1)
NOISES = np.geomspace(3e-4, 0.3, 8)
LIKELY = 0.01
"""Settings of less weight are left out of forecasts."""


@dataclass(frozen=True)
class Setting:
    """One point of the grid.

    Attributes:
        own, noise: variance of the device's own part and of a measurement, shares of its spread.
        weight: how likely it is.
        scale: the device's spread.
        weights: (features,), in the values' unit.
        level: value of the pool's mean.
        left_out: (networks,) value of each measured network, predicted from the others.
    """

    own: float
    noise: float
    weight: float
    scale: float
    weights: Floats
    level: float
    left_out: Floats


@dataclass(frozen=True)
class Posterior:
    """A mixture over the grid.

    Attributes:
        columns: (networks, features) of what was measured.
    """

    prior: DevicePrior
    columns: Floats
    values: Floats
    settings: tuple[Setting, ...]

    @property
    def weights(self) -> Floats:
        """(features,), the mixture's mean."""
        return np.asarray(sum(setting.weight * setting.weights for setting in self.settings))

    @property
    def level(self) -> float:
        return float(sum(setting.weight * setting.level for setting in self.settings))

    def predict(self, columns: Floats) -> Floats:
        """(networks,) from (networks, features)."""
        found: Floats = self.level + columns @ self.weights
        return found

    def left_out(self) -> Floats:
        """(networks,): each measured network predicted from the others, at the weights of all."""
        return np.asarray(sum(setting.weight * setting.left_out for setting in self.settings))

    def likely(self) -> Iterator[Setting]:
        """The settings that are worth a look."""
        return (setting for setting in self.settings if setting.weight >= LIKELY)

    def variance(self, columns: Floats) -> Floats:
        """(networks,): of the function's values, without the noise of a measurement."""
        total, weight = np.zeros(len(columns)), 0.0
        mean = self.predict(columns)
        for setting in self.likely():
            covariance = self.prior.covariance(setting.own)
            spread = reduced(covariance, self.columns, columns, setting.noise) * setting.scale**2
            apart = setting.level + columns @ setting.weights - mean
            total += setting.weight * (spread + apart**2)
            weight += setting.weight
        return np.asarray(total / weight)

    @property
    def noise(self) -> float:
        """Variance of a measurement, in the values' unit."""
        return float(sum(s.weight * s.noise * s.scale**2 for s in self.settings))


def posterior(prior: DevicePrior, one_hot: Floats, values: Floats) -> Posterior:
    """
    Args:
        one_hot: (networks, columns) of 2 networks or more. values: (networks,), not all alike.
    """
    columns = prior.features.of_networks(one_hot)
    found, likelihoods = [], []
    for own in OWN:
        across = prior.covariance(own) @ columns.T
        kernel = columns @ across
        for noise in NOISES:
            likelihood, setting = _solve(kernel, across, values, own, float(noise))
            likelihoods.append(likelihood)
            found.append(setting)
    shares = np.exp(np.array(likelihoods) - max(likelihoods))
    settings = tuple(
        replace(setting, weight=float(share))
        for setting, share in zip(found, shares / shares.sum(), strict=True)
    )
    return Posterior(prior, columns, values, settings)


def _solve(
    kernel: Floats, across: Floats, values: Floats, own: float, noise: float
) -> tuple[float, Setting]:
    """Log marginal likelihood of one setting, and its fit."""
    count = len(values)
    lower = np.linalg.cholesky(kernel + noise * np.eye(count))
    inverse = np.linalg.inv(lower)
    inverse = inverse.T @ inverse
    ones = inverse.sum(0)
    total = float(ones.sum())
    level = float(ones @ values) / total
    dual = inverse @ (values - level)
    squares = max(float((values - level) @ dual), 1e-300)
    likelihood = (
        -float(np.log(np.diag(lower)).sum()) - 0.5 * np.log(total) - 0.5 * (count - 1) * np.log(squares)
    )
    # The same book, equation 5.12, with the level projected out.
    left_out = values - dual / (np.diag(inverse) - ones**2 / total)
    scale = float(np.sqrt(squares / (count - 1)))
    return likelihood, Setting(own, noise, 0.0, scale, across @ dual, level, left_out)


def reduced(covariance: Floats, measured: Floats, wanted: Floats, noise: float) -> Floats:
    """(wanted networks,): variance left of each once `measured` is known, the level's included."""
    across = covariance @ measured.T
    kernel = measured @ across + noise * np.eye(len(measured))
    between = wanted @ across
    solved = np.linalg.solve(kernel, np.hstack([between.T, np.ones((len(measured), 1))]))
    ones = solved[:, -1]
    left = ((wanted @ covariance) * wanted).sum(1) - (between * solved[:, :-1].T).sum(1)
    # The level is known as well as the networks tell it (the same book, equation 2.42).
    return np.asarray(left + (1.0 - between @ ones) ** 2 / ones.sum())
