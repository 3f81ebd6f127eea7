"""Compound scaling: S3NAS's published networks, spaces that are written, and the search for phi."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof import ops
from hwprof.composition.composition import Scope
from hwprof.errors import LutError, MissingRow, SpaceError
from hwprof.graph import cost
from hwprof.ops import lower
from hwprof.search.scale import (
    largest_that_fits,
    network_price,
    only_scope,
    ops_without_row,
    read_found,
    scale_to_target,
    scaled_shapes,
)
from hwprof.search.scaling_network import network_of
from hwprof.search.scaling_rules import ScalingRule, round_width, scaled
from hwprof.search.space_file import write_space
from hwprof.space import Choice, Position, Space, load_space

S3, S5 = "3:4+5:2", "5:6"
M = (
    ("3:2+5:2", "3:6", "3:6"),
    (S3,) * 4,
    (S3, "3:6", "3:6", S3, S3, "3:2+5:2", "5:2"),
    ("3:2+5:4", "3:6", "3:4", "3:6"),
    ("3:2+5:2+7:2", *[S5] * 10),
)
RULE = ScalingRule()


def spell(parts):
    return "+".join(f"{kernel}:{part}" for kernel, part in parts)


@pytest.fixture(scope="module")
def m():
    """S3NAS's network M as a point of its space."""
    space = load_space("s3nas")
    labels = [label for stage in M for label in stage]
    blocks = zip(space.positions[1:-1], labels, strict=True)
    chosen = [[c.label for c in position.choices].index(f"{label} relu") for position, label in blocks]
    return network_of(space, (0, *chosen, 0))


def with_batch_norm(network):
    """Parameters as papers count them: two a channel for each BatchNorm, which hwprof folds into the
    one bias of its convolution."""
    graph = lower(network.ops())
    return cost(graph).parameters + sum(n.channels for n in graph.nodes if n.primitive == "conv")


@pytest.mark.parametrize(
    ("phi", "side", "widths", "depths", "million"),
    [
        (0.0, 224, (32, 32, 64, 128, 160, 256, 1280), (3, 4, 7, 4, 11), 12.82),
        (1.0, 268, (32, 32, 64, 144, 176, 288, 1408), (3, 4, 8, 4, 12), 17.09),
        (2.13, 332, (48, 48, 80, 160, 192, 320, 1568), (4, 5, 9, 5, 13), 23.08),
        (2.14, 332, (48, 48, 80, 160, 192, 320, 1568), (4, 5, 9, 5, 13), 23.08),
    ],
)
def test_the_published_networks_come_out_of_m(m, phi, side, widths, depths, million):
    network = scaled(m, phi, RULE)
    assert network.input_shape == (1, 3, side, side)
    assert network.widths == widths
    assert network.depths == depths
    assert round(with_batch_norm(network) / 1e6, 2) == million


def test_copies_stand_behind_the_blocks_with_most_parameters(m):
    xl = scaled(m, 2.13, RULE)
    assert [[spell(block.parts) for block in stage] for stage in xl.stages] == [
        ["3:2+5:2", "3:6", "3:6", "3:6"],
        [S3] * 5,
        # Of the equal blocks the last two: 3:4+5:2 at places 4 and 5.
        [S3, "3:6", "3:6", S3, S3, S3, S3, "3:2+5:2", "5:2"],
        ["3:2+5:4", "3:2+5:4", "3:6", "3:4", "3:6"],
        ["3:2+5:2+7:2", "3:2+5:2+7:2", *[S5] * 11],
    ]
    assert [[block.stride for block in stage][:2] for stage in xl.stages] == [
        [2, 1], [2, 1], [2, 1], [1, 1], [2, 1],
    ]  # fmt: skip


def test_a_stage_more_than_twice_as_deep_repeats_all_its_blocks_first(m):
    deep = scaled(m, 1.0, ScalingRule(depth=2.3, width=1.0, resolution=1.0))
    assert deep.depths == (7, 9, 16, 9, 25)
    assert [spell(block.parts) for block in deep.stages[0]] == ["3:2+5:2"] * 2 + ["3:6"] * 5
    assert deep.widths == m.widths
    assert deep.input_shape == m.input_shape


@pytest.mark.parametrize(
    ("width", "factor", "divisor", "rounded"),
    [(32, 1.1, 16, 32), (32, 1.2251, 16, 48), (1280, 1.1, 16, 1408), (3, 1.1, 8, 8), (24, 1.0, 16, 24)],
)
def test_widths_round_as_efficientnet_does(width, factor, divisor, rounded):
    assert round_width(width, factor, divisor) == rounded


@given(st.integers(1, 2000), st.floats(1, 4, exclude_min=True), st.sampled_from([4, 8, 16]))
def test_a_width_is_a_multiple_and_never_ten_percent_short(width, factor, divisor):
    rounded = round_width(width, factor, divisor)
    assert rounded % divisor == 0
    assert rounded >= 0.9 * width * factor
    assert rounded <= max(divisor, width * factor + divisor)


@pytest.mark.parametrize("name", ["s3nas", "s3nas-post", "s3nas-cifar", "tiny", "mobilenet-v2-like"])
@settings(deadline=None, max_examples=4)
@given(data=st.data())
def test_any_network_is_read_scaled_and_written_as_a_space_of_itself(name, data, tmp_path_factory):
    space = load_space(name)
    point = space.sample(np.random.default_rng(data.draw(st.integers(0, 999))))
    network = network_of(space, point)
    assert network.ops() == space.point_ops(point)
    larger = scaled(network, data.draw(st.sampled_from([0.0, 0.3, 1.0])), RULE)
    lower(larger.ops())  # shapes meet
    path = tmp_path_factory.mktemp("space") / "scaled.yaml"
    written = write_space(path, larger.document("scaled", "made for a test"))
    assert written.size == 0
    assert written.point_ops((0,) * len(written.positions)) == larger.ops()


def test_what_cannot_be_scaled_is_refused():
    split = load_space("mobilenet-v2-split")
    with pytest.raises(SpaceError, match="cannot be scaled"):
        network_of(split, (0,) * len(split.positions))
    cells = load_space("nb201")
    with pytest.raises(SpaceError, match="is a cell space"):
        network_of(cells, (0,) * len(cells.positions))


@pytest.mark.parametrize(
    "rule",
    [{"depth": 0.9}, {"width": float("nan")}, {"divisor": 0}, {"depth": 1, "width": 1, "resolution": 1}],
)
def test_rules_that_do_not_grow_a_network_are_refused(rule):
    with pytest.raises(SpaceError):
        ScalingRule(**rule)


def test_shapes_are_different_in_order_and_begin_with_the_network(m):
    shapes = scaled_shapes(m, RULE)
    assert shapes[0].phi == 0
    assert shapes[0].network == m
    assert all(a.network != b.network and a.phi < b.phi for a, b in pairwise(shapes))
    assert scaled(m, 2.13, RULE) in [shape.network for shape in shapes]


@given(st.integers(1, 300), st.data())
def test_the_place_that_fits_is_found_from_any_guess_in_few_steps(count, data):
    last = data.draw(st.integers(0, count - 1))
    tried = []

    def fits(place):
        tried.append(place)
        return place <= last

    assert largest_that_fits(fits, count, data.draw(st.integers(0, count - 1))) == last
    assert len(tried) == len(set(tried)) <= 2 * max(1, count).bit_length() + 2


def flops_ms(network_ops):
    return cost(lower(network_ops)).flops / 1e9


@pytest.mark.parametrize("target_ms", [2.7, 5.0, 12.0])
def test_the_largest_network_that_fits_is_found_and_the_next_does_not(m, target_ms):
    told = []
    found = scale_to_target(m, flops_ms, target_ms, told=lambda phi, ms: told.append((phi, ms)))
    assert found.latency_ms == flops_ms(found.shape.network.ops()) <= target_ms
    shape, next_ms = found.next
    assert target_ms < next_ms == flops_ms(shape.network.ops())
    assert shape.phi > found.shape.phi
    assert list(found.tried) == told
    assert len(told) <= 4  # the guess by FLOPs is right where the price is in FLOPs
    assert found.summary()["parameters"] == cost(lower(found.shape.network.ops())).parameters


@pytest.mark.parametrize(
    ("target_ms", "message"),
    [
        (1.0, "below the network's own latency, 2.586 ms, and scaling only grows it"),
        (float("inf"), "is no latency"),
        (float("nan"), "is no latency"),
        (1e6, r"above what scaling reaches: 2.586 ms \(phi 0\) to .* \(phi 10\)"),
    ],
)
def test_a_target_that_cannot_be_met_says_why(m, target_ms, message):
    with pytest.raises(SpaceError, match=message):
        scale_to_target(m, flops_ms, target_ms)


def test_price_and_missing_rows_are_the_tables(save, make):
    first, second = make.pool[:2]
    scope = Scope(make.here, "random", 1, "float32", "warm", "floor")
    table = save([make.row(first, 2.0), make.row(second, 3.0, state="unstable")])
    assert network_price(table, scope, (first, first)) == 4.0
    assert ops_without_row(table, scope, (first, make.pool[2], second, make.pool[2])) == [make.pool[2]]
    with pytest.raises(MissingRow, match="unstable"):
        network_price(table, scope, (first, second))
    assert network_price(table, scope, (first, second), allow_unstable=True) == 5.0


def test_the_scope_of_a_table_of_two_environments_must_be_named(save, make):
    space = make.space([[[make.pool[0]]]])
    rows = [make.row(make.pool[0], 1.0, environment_id=name) for name in (make.here, make.there)]
    table = save(rows)
    with pytest.raises(LutError, match="op rows of 2 environments"):
        only_scope(table, space, None, None)
    assert only_scope(table, space, make.there, None).environment_id == make.there


def test_a_found_network_is_read_with_its_space_beside_it(tmp_path):
    (tmp_path / "net.json").write_text(json.dumps({"space": "tiny", "point": [0, 1, 2, 3, 0], "x": 1}))
    found = read_found(tmp_path / "net.json")
    assert (found.space.name, found.point) == ("tiny", (0, 1, 2, 3, 0))
    network = network_of(found.space, found.point)
    (tmp_path / "mine.yaml").write_text(network.document("mine", "one network"))
    (tmp_path / "own.json").write_text(json.dumps({"space": "mine.yaml", "point": [0] * 5}))
    own = read_found(tmp_path / "own.json")
    assert own.space.point_ops(own.point) == network.ops()
    assert load_space(own.source) == own.space


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "[" * 100_000, '{"space": "tiny"}', '{"space": 3, "point": [0]}',
        '{"space": "tiny", "point": [0, 1.5, 0, 0, 0]}', '{"space": "tiny", "point": [true]}',
        '{"space": "tiny", "point": [0, 0]}', '{"space": "tiny", "point": [0, 9, 0, 0, 0]}',
        '{"space": "nowhere.yaml", "point": [0]}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_found_network_is_an_error(tmp_path, text):
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(SpaceError):
        read_found(tmp_path / "net.json")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(SpaceError, match="cannot be read"):
        read_found(tmp_path / "none.json")


def test_squeeze_and_excitation_keeps_its_ratio_at_odd_widths():
    """1 / 49 x 49 is below 1 in floating point."""
    op = ops.mixconv((1, 49, 8, 8), 49, {3: 98}, se_ratio=1.5 / 49)
    assert op.se_channels == 1
    stem = ops.conv((1, 3, 8, 8), 49, 3, activation="relu")
    head = ops.head((1, 49, 8, 8), 10)
    positions = [
        Position("stem", (Choice("stem", (stem,)),), "layer"),
        Position("stage1.block1", (Choice("block", (op,)),)),
        Position("head", (Choice("head", (head,)),), "layer"),
    ]
    network = network_of(Space("odd", "made for a test", "chain", tuple(positions)), (0, 0, 0))
    assert network.ops() == (stem, op, head)
