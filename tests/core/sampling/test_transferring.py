"""From other devices' tables to a predictor of a new device, measuring included."""

from dataclasses import replace

import numpy as np
import pytest

from hwprof.backends.simulated import true_latency_ms
from hwprof.build import BuildOptions, build_lut
from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.prediction import load_predictor, save_predictor
from hwprof.prediction.errors import PredictionError
from hwprof.sampling.transferring import transfer
from hwprof.space import load_space
from hwprof.validation.setting import Wanted


@pytest.fixture(scope="session")
def known(tmp_path_factory, part_space):
    """The table of another device: all rows of the space, no networks."""
    path = tmp_path_factory.mktemp("known") / "known.parquet"
    build_lut(BuildOptions("simulated", str(part_space), path, target="quiet", effort="fast"))
    return path


@pytest.fixture(scope="module")
def transferred(known, part_once, part_wanted, copied, tmp_path_factory):
    path = copied(part_once, tmp_path_factory.mktemp("transferred"))
    return path, transfer([known], path, part_wanted, measured=4)


def test_four_chosen_networks_and_another_devices_rows_predict_all(transferred, part_space):
    path, made = transferred
    assert made.predictor.origin.networks == 4
    assert len(load_lut(path).filter(granularity="network")) == 4
    space = load_space(str(part_space))
    rng = np.random.default_rng(9)
    points = [space.sample(rng) for _ in range(50)]
    truth = np.array([true_latency_ms(space.network(point)) for point in points])
    assert np.abs(made.predictor.predict(points).value / truth - 1).mean() < 0.05


def test_measured_networks_are_used_again_and_further_ones_are_others(
    transferred, known, part_wanted, copied, tmp_path
):
    path = copied(transferred[0], tmp_path)
    made = transfer([known], path, part_wanted, measured=2)
    assert made.predictor.origin.networks == 6
    again = transfer([known], path, part_wanted)
    assert again.predictor.origin.networks == 6
    assert again.foreseen == made.foreseen


def test_transferred_predictor_is_kept_and_is_a_source_for_other_devices(
    transferred, part_wanted, tmp_path
):
    path, made = transferred
    folder = tmp_path / "p"
    save_predictor(made.predictor, folder)
    points = [list(point) for point in made.next_points[:3]] or [[0] * 7]
    found = load_predictor(folder).predict(points).value
    np.testing.assert_array_equal(found, made.predictor.predict(points).value)
    with pytest.raises(PredictionError, match="fitted on the target's own networks"):
        transfer([folder], path, part_wanted)
    origin = replace(made.predictor.origin, environment_id="another device")
    save_predictor(replace(made.predictor, origin=origin), folder)
    assert transfer([folder], path, part_wanted).sources == (str(folder),)


def test_no_networks_say_how_to_measure_some(part, known, part_wanted):
    with pytest.raises(PredictionError, match=r"no measured networks.*--measure 10"):
        transfer([known], part, part_wanted)


def test_source_of_another_space_and_the_target_itself_are_refused(part, part_wanted, cell_table):
    with pytest.raises(PredictionError, match="no rows of space part, it has cell4"):
        transfer([cell_table], part, part_wanted)
    with pytest.raises(PredictionError, match="no rows but the target's own"):
        transfer([part], part, part_wanted)


def test_source_that_knows_nothing_of_the_metric_is_refused(part, known, part_wanted):
    with pytest.raises(PredictionError, match="known neither by its networks"):
        transfer([known], part, part_wanted, metric="energy_mj")


def test_same_source_twice_is_refused(part, known, part_wanted):
    with pytest.raises(PredictionError, match="given twice"):
        transfer([known, known], part, part_wanted)


def test_table_of_another_space_is_refused(part, known):
    with pytest.raises(LutError, match="no op rows"):
        transfer([known], part, Wanted(space="tiny"))
