"""First-order DARTS with a latency: it learns, its latency counts, and a stopped search goes on."""

from __future__ import annotations

import pytest
import torch

from hwprof.errors import SpaceError
from hwprof.search import make_loss
from hwprof.search.cells import CellRecipe, CellSearch, CellSupernet, LatencyAwareDarts, cell_recipe
from hwprof.search.data import Batches
from hwprof.search.engine.settings import Schedule, SearchSettings
from hwprof.search.supernet import CheckpointError, TrainingError
from hwprof.space import load_space

RECIPE = CellRecipe(steps=24, warm_steps=2, parameter_rate=0.05)


class SumOfChoices:
    """A latency of 1 ms for each op that runs: max pool 0.5, skip 0.1, convolutions 2 and 1."""

    COSTS = torch.tensor([0.0, 0.5, 0.1, 2.0, 1.0])

    def __init__(self, space):
        places = torch.tensor([p.kind == "edge" for p in space.positions])
        self.table = torch.where(places[:, None], self.COSTS, torch.zeros(5))

    def expected(self, probabilities):
        return (probabilities * self.table).sum()

    def price(self, points):
        return [float(self.table.gather(1, torch.tensor(p)[:, None]).sum()) for p in points]


def make(searched, splits, **settings):
    batches = [
        Batches(images, splits.normalisation, 16, seed=n)
        for n, images in enumerate((splits.train, splits.validation))
    ]
    recipe = settings.pop("recipe", RECIPE)
    return CellSearch(CellSupernet(searched, seed=0), *batches, recipe, **settings)


def test_the_supernet_learns_and_the_parameters_move(space, splits):
    search = make(space, splits)
    before = search.parameters.detach().clone()
    reports = list(search.run(report_every=8))
    assert reports[-1].step == 26
    assert reports[-1].cross_entropy < reports[0].cross_entropy
    assert reports[-1].accuracy > 0.5, "four colours, chance is 0.25"
    assert (search.parameters - before).abs().max() > 0.1
    assert {report.latency for report in reports} == {None}


def test_parameters_rest_while_the_weights_warm_up(space, splits):
    search = make(space, splits, recipe=CellRecipe(steps=1, warm_steps=3))
    before = search.parameters.detach().clone()
    reports = search.run()
    assert [next(reports).validation_entropy for _ in range(3)] == [None] * 3
    assert torch.equal(search.parameters, before)


def test_a_heavier_latency_ends_at_a_faster_network(space, splits):
    cost = SumOfChoices(space)
    found = []
    for weight in (0.0, 3.0):
        constraint = make_loss("weighted", 1.0, weight=weight)
        search = make(space, splits, latency=cost.expected, constraint=constraint)
        *_, last = search.run(report_every=13)
        assert last.latency is not None
        found.append(cost.price([search.point])[0])
    assert found[1] < 0.5 * found[0]


def test_the_target_form_ends_near_its_target(space, splits):
    cost = SumOfChoices(space)
    recipe = CellRecipe(steps=60, parameter_rate=0.1)
    constraint = make_loss("multiplier", 5.0, rate=0.3)
    search = make(space, splits, latency=cost.expected, constraint=constraint, recipe=recipe)
    *_, last = search.run(report_every=60)
    assert last.latency == pytest.approx(5.0, rel=0.15)


def test_a_pruned_op_is_never_found(space, splits):
    search = make(space, splits)
    mask = torch.ones(10, 5, dtype=torch.bool)
    mask[:, 3] = False
    search.supernet.offer(mask)
    list(search.run(report_every=26))
    assert 3 not in search.point


@pytest.mark.parametrize("stop_at", [1, 9])
def test_search_that_was_stopped_ends_as_one_that_was_not(space, splits, tmp_path, stop_at):
    cost = SumOfChoices(space)

    def new():
        return make(space, splits, latency=cost.expected, constraint=make_loss("multiplier", 8.0),
                    recipe=CellRecipe(12, 2, parameter_rate=0.05))  # fmt: skip

    whole = new()
    list(whole.run())
    stopped = new()
    for progress in stopped.run():
        if progress.step == stop_at:
            stopped.save(tmp_path / "cells.safetensors")
            break
    resumed = new()
    resumed.load(tmp_path / "cells.safetensors")
    list(resumed.run())
    assert torch.equal(resumed.parameters, whole.parameters)
    for name, value in whole.supernet.state_dict().items():
        assert torch.equal(resumed.supernet.state_dict()[name], value), name


def test_a_search_finds_networks_of_the_space_that_is_timed(space, splits, space_file, tmp_path):
    """DARTS searches with 8 cells and evaluates 20; ops and nodes must be the same ones."""
    text = space_file.read_text().replace("cells: 2, channels: 8", "cells: 4, channels: 12")
    (tmp_path / "deep.yaml").write_text(text.replace("small-darts", "deep-darts"))
    deep = load_space(tmp_path / "deep.yaml")
    search = make(space, splits, space=deep, recipe=CellRecipe(2))
    list(search.run())
    assert len(search.point) == len(deep.positions) > len(space.positions)
    deep.network(search.point)
    with pytest.raises(TrainingError, match="darts and small-darts differ in the edges or choices"):
        make(space, splits, space=load_space("darts"))


def test_rates_go_from_the_published_to_the_last():
    recipe = cell_recipe(100, 10)
    assert recipe.weight_rate_at(0) == pytest.approx(0.025)
    assert recipe.weight_rate_at(110) == pytest.approx(0.001)
    assert recipe.temperature_at(0) == recipe.temperature_at(10) == 1.0
    assert recipe.temperature_at(109) == pytest.approx(0.2)
    assert recipe.parameter_rate == 0.02, "a short search moves its parameters faster, to a bound"
    assert cell_recipe(50_000).parameter_rate == 3e-4


def test_what_cannot_be_searched_is_said(space, splits, tmp_path):
    with pytest.raises(TrainingError, match="a latency needs constraint="):
        make(space, splits, latency=lambda p: p.sum())
    with pytest.raises(CheckpointError, match="is not there"):
        make(space, splits).load(tmp_path / "none.safetensors")
    broken = make(
        space,
        splits,
        latency=lambda p: p.sum() * torch.nan,
        constraint=make_loss("weighted", 1.0, weight=1.0),
    )
    with pytest.raises(TrainingError, match=r"cross entropy is .* in steps"):
        list(broken.run(report_every=4))


class Quiet:
    def __init__(self, stop_after=None):
        self.notes, self.stop_after = [], stop_after

    def note(self, text):
        self.notes.append(text)
        if len(self.notes) == self.stop_after:
            raise KeyboardInterrupt

    def scalar(self, name, value, step):
        pass


def engine(space, splits, folder, watcher=None, loss="multiplier", target=5.0, weight=None):
    schedule = Schedule(None, 16, 0, 3, 0, 0, 3)
    settings = SearchSettings(target, loss=loss, least_share=0.7, shortlist=2)
    cost = SumOfChoices(space)
    run = LatencyAwareDarts(
        space, cost, splits, settings, schedule, folder, watcher or Quiet(), weight=weight
    )
    return run.run(lambda points: [
        {"point": list(p), "predicted_ms": ms, "measured_ms": ms}
        for p, ms in zip(points, cost.price(points), strict=True)
    ])  # fmt: skip


def test_whole_search_finds_a_network_at_its_target_and_trains_it(space, splits, tmp_path):
    found = engine(space, splits, tmp_path)
    assert 0.7 * 5.0 <= found.shortlist[found.chosen]["measured_ms"] <= 5.0
    assert found.network.ops == space.point_ops(found.point)
    assert found.accuracy > 0.4, "four colours, chance is 0.25"
    assert {path.name for path in tmp_path.iterdir()} == {
        "search.json", "candidates.json", "shortlist.json", "cells.safetensors", "network.safetensors",
        "spent.json",
    }  # fmt: skip


def test_whole_search_that_was_stopped_ends_as_one_that_was_not(space, splits, tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.search.cells.engine.SAVE_EVERY_S", 0.0)
    whole = engine(space, splits, tmp_path / "whole")
    for stop_after in (3, 15):
        with pytest.raises(KeyboardInterrupt):
            engine(space, splits, tmp_path / "parts", Quiet(stop_after))
    again = engine(space, splits, tmp_path / "parts")
    assert again.point == whole.point
    assert torch.equal(again.right, whole.right)


def test_the_weighted_form_takes_the_network_that_it_found(space, splits, tmp_path):
    """LA-DARTS knows no target, so nothing is filtered by one: here no network could meet it."""
    found = engine(space, splits, tmp_path, loss="weighted", target=0.3, weight=0.1)
    assert found.chosen == 0
    assert found.point == tuple(found.shortlist[0]["point"])
    with pytest.raises(SpaceError, match=r"between 0\.21 and 0\.3 was found"):
        engine(space, splits, tmp_path / "bounded", target=0.3)
