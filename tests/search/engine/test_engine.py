"""The search from end to end, small: on a simulated device, with images whose colour is their class."""

import json
import shutil

import pytest
import torch

from hwprof.errors import HwprofError, SpaceError
from hwprof.lut import load_lut
from hwprof.search import ExpectedLatency
from hwprof.search.data import load_images
from hwprof.search.engine.candidates import searched_space
from hwprof.search.engine.choice import choose
from hwprof.search.engine.folder import SearchFolder
from hwprof.search.engine.postprocess import excitation_variance, has_features, postprocess
from hwprof.search.engine.retraining import NetworkTraining, network_recipe
from hwprof.search.engine.search import SuperkernelSearch
from hwprof.search.engine.settings import Schedule, SearchSettings
from hwprof.search.engine.shortlist import dressed_networks
from hwprof.search.supernet import Network, Supernet
from hwprof.space import load_space

SCHEDULE = Schedule(
    images=None, batch_size=16, warm_epochs=1, search_epochs=2, candidates=4, tune_epochs=0.5,
    train_epochs=4,
)  # fmt: skip


class Quiet:
    """Keeps what it is told; stops the search after so many notes."""

    def __init__(self, stop_after=None):
        self.notes, self.curves, self.stop_after = [], [], stop_after

    def note(self, text):
        self.notes.append(text)
        if self.stop_after is not None and len(self.notes) >= self.stop_after:
            raise KeyboardInterrupt

    def scalar(self, name, value, step):
        self.curves.append((name, value, step))


def measured_as_predicted(latency):
    def measure(points):
        return [
            {"measured_ms": ms, "predicted_ms": ms, "point": list(p)}
            for p, ms in zip(points, latency.price(points).tolist(), strict=True)
        ]

    return measure


@pytest.fixture
def made(space_file, built, images):
    """A new search of the same thing each time it is called."""
    space = load_space(str(space_file))
    splits = load_images(images, (16, 16), classes=4, validation_share=0.25)
    latency = ExpectedLatency(load_lut(built), space)
    costs = [row[mask].tolist() for row, mask in zip(latency.latencies, latency.mask, strict=True)]

    def make(folder, watcher=None, share=0.5, **changes):
        target_ms = (1 - share) * sum(map(min, costs)) + share * sum(map(max, costs))
        search = SuperkernelSearch(
            Supernet(space, seed=0),
            latency,
            splits,
            SearchSettings(target_ms, shortlist=2),
            SCHEDULE,
            folder,
            watcher or Quiet(),
            **changes,
        )
        return search, measured_as_predicted(latency)

    return make


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


def test_network_found_meets_its_target_and_the_shortlist_was_measured(made, whole):
    search, measure = made(whole)
    found = search.run(measure)
    target_ms = search.settings.target_ms
    assert 0.92 * target_ms <= found.shortlist[found.chosen]["measured_ms"] <= 1.03 * target_ms
    assert len(found.shortlist) == 2
    assert tuple(found.shortlist[found.chosen]["point"]) == found.point
    assert found.network.ops == search.space.point_ops(found.point)
    assert found.accuracy > 0.5, "four colours, chance is 0.25"
    names = [step.name for step in found.steps]
    assert (names[0], names[-1]) == ("found", "chosen")
    assert {"SE everywhere", "h-swish everywhere"} <= set(names)
    curves = {name for name, *_ in search.watcher.curves}
    assert {"warm/cross_entropy", "search/latency_ms", "network/loss"} <= curves


@pytest.mark.parametrize("stop_after", [2, 9, 17, 24])
def test_search_that_was_stopped_ends_as_one_that_was_not(
    made, whole, tmp_path, stop_after, monkeypatch
):
    monkeypatch.setattr("hwprof.search.engine.search.SAVE_EVERY_S", 0.0)
    search, measure = made(whole)
    expected = search.run(measure)
    stopped, measure = made(tmp_path / "again", Quiet(stop_after))
    with pytest.raises(KeyboardInterrupt):
        stopped.run(measure)
    resumed, measure = made(tmp_path / "again")
    found = resumed.run(measure)
    assert found.point == expected.point
    assert torch.equal(found.right, expected.right)
    for name, value in expected.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value), name


@pytest.mark.parametrize("share", [0.1, 0.9, 0.97])
def test_a_target_near_either_end_once_failed_after_the_whole_search(made, whole, tmp_path, share):
    """At 0.9 of the way to the slowest network those without SE end 14 % below the target."""
    search, measure = made(whole)
    search.run(measure)
    search, measure = made(tmp_path, share=share, warm=whole / "warm.safetensors")
    found = search.run(measure)
    target_ms = search.settings.target_ms
    assert 0.92 * target_ms <= found.shortlist[found.chosen]["measured_ms"] <= 1.03 * target_ms


def test_folder_of_another_search_is_refused_and_kept(made, tmp_path):
    made(tmp_path)
    before = (tmp_path / "search.json").read_bytes()
    folder = SearchFolder(tmp_path)
    with pytest.raises(HwprofError, match="holds a search with target_ms"):
        folder.claim({**json.loads(before), "target_ms": 99.0})
    assert (tmp_path / "search.json").read_bytes() == before


def test_warm_phase_of_one_search_serves_another_target(made, whole, tmp_path):
    search, measure = made(whole)
    search.run(measure)
    other, measure = made(tmp_path, warm=whole / "warm.safetensors")
    other.run(measure)
    assert not (tmp_path / "warm.safetensors").exists()
    assert not any(note.startswith("warm") for note in other.watcher.notes)
    wrong, measure = made(tmp_path / "wrong", warm=whole / "gates.safetensors")
    with pytest.raises(HwprofError, match="is of the search phase; give one of the warm phase"):
        wrong.run(measure)


def test_searched_part_of_a_space_has_no_se_and_one_activation(space_file):
    space = load_space(str(space_file))
    part = searched_space(space)
    ops = [op for p in part.space.positions[1:-1] for c in p.choices for op in c.ops]
    assert {(op.se_channels, op.activation) for op in ops} == {(0, "relu")}
    point = part.whole(tuple(len(p.choices) - 1 for p in part.space.positions))
    assert part.whole(part.part(point)) == point


def test_excitations_that_never_vary_are_worth_nothing(space_file):
    space = load_space(str(space_file))
    point = [0] * len(space.positions)
    point[1] = next(i for i, c in enumerate(space.positions[1].choices) if c.ops[0].se_channels)
    network = Network(space.point_ops(point))
    same = torch.zeros(6, 3, 16, 16)
    assert excitation_variance(network, [same]) == [0.0] * len(network.ops)
    varied = torch.randn(6, 3, 16, 16)
    of_ops = excitation_variance(network, [varied[:3], varied[3:]])
    assert [value > 0 for value in of_ops] == [bool(op.se_channels) for op in network.ops]


def test_features_that_do_not_help_are_left_out(space_file):
    space = load_space(str(space_file))
    base = (0,) * len(space.positions)

    def tune(point):
        featured = any(op.se_channels or op.activation == "hswish" for op in space.point_ops(point))
        return Network(space.point_ops(point)), 0.4 if featured else 0.5

    steps = list(postprocess(space, base, 9.0, lambda points: [1.0] * len(points), tune, list))
    assert steps[-1].name == "chosen"
    assert steps[-1].point == base


def test_features_are_bought_up_to_the_target(space_file):
    space = load_space(str(space_file))
    base = (0,) * len(space.positions)

    def price(points):
        return [1.0 + 0.1 * sum(bool(op.se_channels) for op in space.point_ops(p)) for p in points]

    def tune(point):
        network = Network(space.point_ops(point))
        return network, 0.5 + 0.01 * sum(bool(op.se_channels) for op in network.ops)

    images = torch.randn(4, 3, 16, 16)
    steps = list(postprocess(space, base, 1.25, price, tune, lambda: [images]))
    assert steps[1].name == "SE everywhere"
    assert steps[1].latency_ms > 1.25
    assert sum(bool(op.se_channels) for op in space.point_ops(steps[-1].point)) == 2
    assert steps[-1].latency_ms <= 1.25


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        ([1.02, 0.9], 0),
        ([1.1, 0.93], 1),
        ([1.3, 1.2], 1),
        ([None, None], 0),
        ([1.2, None], 0),
        ([0.89, 0.95], 1),
        ([0.89, 1.2], 0),
    ],
)
def test_first_of_the_shortlist_that_meets_the_target_is_taken(measured, chosen):
    assert choose(measured, SearchSettings(1.0)) == chosen


def test_a_search_that_went_on_with_other_images_or_another_table_was_told_as_one(made, tmp_path):
    search, _ = made(tmp_path, sources={"rows": "a"})
    with pytest.raises(HwprofError, match="holds a search with rows 'a', this one has 'b'"):
        made(tmp_path, sources={"rows": "b"})
    search.splits.test.labels[0] += 1
    with pytest.raises(HwprofError, match="holds a search with images"):
        made(tmp_path, sources={"rows": "a"})


def test_a_loss_that_there_is_not_claimed_the_folder_for_ever(made, tmp_path):
    search, _ = made(tmp_path / "other")
    with pytest.raises(HwprofError, match="loss 'typo' is unknown"):
        SuperkernelSearch(
            search.supernet, search.latency, search.splits,
            SearchSettings(search.settings.target_ms, loss="typo"), SCHEDULE, tmp_path / "own", Quiet(),
        )  # fmt: skip
    assert not (tmp_path / "own").exists()


def test_the_trained_network_is_the_one_whose_latency_is_told_though_prices_changed(
    made, whole, tmp_path
):
    """After a calibration between two runs another network was trained than the one measured."""
    search, measure = made(whole)
    first = search.run(measure)
    shutil.copytree(whole, tmp_path / "found")
    (tmp_path / "found" / "network.safetensors").unlink()
    steps = json.loads((tmp_path / "found" / "steps.json").read_text())
    other = [step["point"] for step in steps if tuple(step["point"]) != first.point]
    steps[-1]["point"] = other[0]
    (tmp_path / "found" / "steps.json").write_text(json.dumps(steps))
    again, measure = made(tmp_path / "found")
    found = again.run(measure)
    assert found.point == tuple(found.shortlist[found.chosen]["point"]) == first.point
    assert found.network.ops == again.space.point_ops(found.point)


def test_minutes_are_those_of_all_runs(made, whole, tmp_path):
    search, measure = made(whole)
    first = search.run(measure)
    shutil.copytree(whole, tmp_path / "found")
    again, measure = made(tmp_path / "found")
    second = again.run(measure)
    assert second.minutes.keys() == first.minutes.keys()
    assert all(second.minutes[part] >= spent > 0 for part, spent in first.minutes.items())


def test_a_shortlist_that_another_device_could_not_measure_is_measured_where_it_can_be(made, tmp_path):
    def elsewhere(points):
        return [{"measured_ms": None, "predicted_ms": 1.0, "point": list(p)} for p in points]

    stopped, _ = made(tmp_path)
    stopped._train = lambda point: exec("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(elsewhere)
    search, measure = made(tmp_path)
    found = search.run(measure)
    assert all(entry["measured_ms"] for entry in found.shortlist)


def test_a_warm_phase_that_was_killed_was_taken_for_a_whole_one(made, tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.search.engine.search.SAVE_EVERY_S", -1.0)
    stopped, measure = made(tmp_path / "stopped", Quiet(2))
    with pytest.raises(KeyboardInterrupt):
        stopped.run(measure)
    other, measure = made(tmp_path / "other", warm=tmp_path / "stopped" / "warm.safetensors")
    with pytest.raises(HwprofError, match=r"warm phase that stands at step \d+ of \d+; let that search"):
        other.run(measure)


def test_where_no_network_is_near_the_target_without_se_any_faster_one_is_dressed(made, tmp_path):
    """It was an error at the end of a long search, though networks with SE were there."""
    search, _ = made(tmp_path)
    asked = []

    def scored(low_ms, high_ms):
        asked.append((low_ms, high_ms))
        return [{"point": [0], "accuracy": 1.0}] if low_ms == 0.0 else []

    search._scored = scored
    assert search._bases("candidates", 0.9 * search.settings.target_ms) == [(0,)]
    assert [low > 0 for low, _ in asked] == [True, True, False]
    search._scored = lambda low_ms, high_ms: []
    with pytest.raises(SpaceError, match=r"has no network of .* ms or less"):
        search._bases("larger", search.settings.target_ms)


def test_points_that_skip_one_or_the_other_of_equal_blocks_were_measured_twice(space_file):
    space = load_space(str(space_file))
    off = next(i for i, choice in enumerate(space.positions[1].choices) if not choice.ops)
    points = [(0, 0, off, 0, 0, 0), (0, off, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0)]
    assert space.point_ops(points[0]) == space.point_ops(points[1])
    found = dressed_networks(
        space, points, points[2], (), count=3, price=lambda some: [1.0] * len(some), target_ms=2.0
    )
    assert found == [points[0], points[2]]


def test_a_network_is_trained_in_float32_whatever_its_rows_are_of(made, tmp_path):
    search, _ = made(tmp_path)
    search.space = search.space.with_options(4, "float16")
    ops = search._network((0,) * len(search.space.positions)).ops
    assert {(op.dtype, op.shape[0]) for op in ops} == {("float32", 1)}


def test_weights_that_are_no_numbers_replaced_the_good_checkpoint(made, whole, tmp_path):
    search, measure = made(whole)
    network = search.run(measure).network
    batches = search._batches(search.splits.train)
    training = NetworkTraining(network, batches, network_recipe(2, 16))
    training.save(tmp_path / "n.safetensors")
    before = (tmp_path / "n.safetensors").read_bytes()
    with torch.no_grad():
        next(iter(network.parameters())).fill_(float("nan"))
    with pytest.raises(HwprofError, match="is not finite after step 0 of the network's training"):
        training.save(tmp_path / "n.safetensors")
    assert (tmp_path / "n.safetensors").read_bytes() == before
    training.step = 2
    training._train_step = lambda: torch.zeros(())
    training.step = 1
    with pytest.raises(HwprofError, match="is not finite after step 2"):
        list(training.run())


def test_space_without_se_has_no_features(space_file):
    assert has_features(load_space(str(space_file)))
    assert not has_features(load_space("s3nas"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_ms": 0.0}, "target must be a number of ms above 0, got 0.0"),
        ({"target_ms": float("nan")}, "above 0, got nan"),
        ({"target_ms": 1.0, "statistic": "mean"}, "choose of floor, p50"),
        ({"target_ms": 1.0, "shortlist": 0}, "shortlist must be 1 or more"),
        ({"target_ms": 1.0, "post_share": 1.0}, "shares of the target"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(HwprofError, match=message):
        SearchSettings(**changes)
