"""Active sampling from a table with few rows to one that is good enough."""

import numpy as np
import pytest

from hwprof.backends.simulated import true_latency_ms
from hwprof.errors import BuildError, LutError
from hwprof.lut import load_lut, write_lut
from hwprof.prediction import fit_predictor
from hwprof.sampling import sample as sampling
from hwprof.sampling.sample import LEAST_NETWORKS, TRIES, sample
from hwprof.space import load_space
from hwprof.validation.setting import Wanted

TARGET = 0.03


@pytest.fixture(scope="module")
def sampled(part_once, part_wanted, copied, tmp_path_factory):
    path = copied(part_once, tmp_path_factory.mktemp("sampled"))
    told = []
    done = sample(path, part_wanted, budget_s=300.0, target_error=TARGET, told=told.append)
    return path, done, told


def test_target_is_reached_and_what_was_measured_is_in_the_table(sampled, part_once):
    path, done, told = sampled
    assert done.ended == "target"
    assert done.reached
    assert done.steps[-1].bound <= TARGET
    assert done.steps[0].error is None
    assert list(done.steps) == told
    table, before = load_lut(path), load_lut(part_once)
    networks = sum(step.networks for step in done.steps)
    ops = sum(step.ops for step in done.steps)
    assert len(table) == len(before) + networks + ops
    assert len(table.filter(granularity="network")) == networks == done.steps[-1].known
    assert networks >= LEAST_NETWORKS


def test_predictor_of_the_sampled_table_is_right_about_new_networks(sampled, part_space):
    path, _, _ = sampled
    space = load_space(str(part_space))
    fitted = fit_predictor(load_lut(path), space, members=["composition", "additive"])
    rng = np.random.default_rng(9)
    points = [space.sample(rng) for _ in range(50)]
    truth = np.array([true_latency_ms(space.network(point)) for point in points])
    assert np.abs(fitted.predict(points).value / truth - 1).mean() < TARGET


def test_same_command_measures_nothing_once_the_target_is_reached(sampled, part_wanted):
    path, _, _ = sampled
    before = path.read_bytes()
    done = sample(path, part_wanted, budget_s=300.0, target_error=TARGET)
    assert done.reached
    assert len(done.steps) == 1
    assert path.read_bytes() == before


def test_budget_that_nothing_fits_into_ends_it_without_a_measurement(part, part_wanted):
    before = part.read_bytes()
    done = sample(part, part_wanted, budget_s=0.001, target_error=TARGET)
    assert done.ended == "budget"
    assert not done.reached
    assert part.read_bytes() == before


def test_cells_are_sampled_and_known_again(cell_table, cell_wanted, copied, tmp_path):
    path = copied(cell_table, tmp_path)
    done = sample(path, cell_wanted, budget_s=300.0, target_error=0.5)
    assert done.reached
    again = sample(path, cell_wanted, budget_s=300.0, target_error=0.5)
    assert again.steps[0].known == done.steps[-1].known
    assert again.steps[0].error == pytest.approx(done.steps[-1].error)


def spoil_networks(path):
    """What a busy moment leaves of them."""
    table = load_lut(path)
    rows = table.table.to_pylist()
    for row in rows:
        if row["granularity"] == "network":
            row |= {"state": "unstable", "reason": "the floors of the lowest processes lie 3.0% apart"}
    write_lut(path, rows, metadata=table.metadata)


@pytest.fixture
def busy(monkeypatch):
    """Calls of `measure` for networks, and how many of the first of them meet a busy machine."""
    calls = {"made": 0, "busy": 0}
    real = sampling.measure

    def measure(setting, jobs, *rest):
        took = real(setting, jobs, *rest)
        if jobs[0].granularity == "network":
            calls["made"] += 1
            if calls["made"] <= calls["busy"]:
                spoil_networks(setting.build.out)
        return took

    monkeypatch.setattr(sampling, "measure", measure)
    return calls


def test_a_busy_moment_at_the_first_batch_once_ended_it_with_nine_minutes_left(part, part_wanted, busy):
    busy["busy"] = 2
    done = sample(part, part_wanted, budget_s=300.0, target_error=TARGET)
    assert done.reached
    assert busy["made"] == 2 + sum(step.networks > 0 for step in done.steps)


def test_networks_without_a_number_to_trust_end_it_with_the_reason(part, part_wanted, busy):
    busy["busy"] = 99
    with pytest.raises(
        BuildError, match=r"none of the last 10 networks has a number to trust \(first: net"
    ):
        sample(part, part_wanted, budget_s=300.0, target_error=TARGET)
    assert busy["made"] == TRIES


@pytest.mark.parametrize(
    ("budget_s", "target_error", "told"),
    [(0.0, 0.02, "budget"), (60.0, 0.0, "target-error"), (60.0, 2.0, "target-error"),
     (np.nan, 0.02, "budget")],
)  # fmt: skip
def test_budgets_and_targets_that_cannot_be_are_refused(part, part_wanted, budget_s, target_error, told):
    with pytest.raises(BuildError, match=told):
        sample(part, part_wanted, budget_s=budget_s, target_error=target_error)


def test_table_of_another_space_is_refused(part):
    with pytest.raises(LutError, match="no op rows"):
        sample(part, Wanted(space="tiny"), budget_s=60.0, target_error=0.02)
