"""Folders of predictors as known devices of a transfer."""

import numpy as np
import pytest

from hwprof.prediction import fit_family, save_predictor
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.features import Features
from hwprof.prediction.predictor import Origin
from hwprof.prediction.sources import read_sources


@pytest.fixture
def folder_of(known, laws, every_point, tmp_path):
    """Fits and keeps a predictor of this metric and environment."""
    some = every_point[np.random.default_rng(1).permutation(len(every_point))[:60]]

    def made(metric, environment):
        origin = Origin(metric, "", len(some), environment_id=environment)
        fitted = fit_family(
            known, some, laws.additive(some), metric=metric, members=("additive",), origin=origin
        )
        save_predictor(fitted, tmp_path / "p")
        return tmp_path / "p"

    return made


def read(folder, chain):
    features = Features.of(chain, seed=0)
    return read_sources([folder], features, chain, metric="latency_ms", target_environment="new")


@pytest.mark.parametrize("environment", ["old", ""])
def test_a_predictor_of_another_device_or_of_none_is_a_source(folder_of, chain, environment):
    folder = folder_of("latency_ms", environment)
    assert [source.name for source in read(folder, chain)] == [str(folder)]


def test_a_predictor_of_the_new_device_itself_is_no_source(folder_of, chain):
    """It has seen the networks that the transfer leaves out to judge itself."""
    with pytest.raises(PredictionError, match="fitted on the target's own networks \\(new\\); give"):
        read(folder_of("latency_ms", "new"), chain)


def test_a_predictor_of_another_metric_is_no_source(folder_of, chain):
    with pytest.raises(PredictionError, match="predicts parameters, not latency_ms; give"):
        read(folder_of("parameters", "old"), chain)
