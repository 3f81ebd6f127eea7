"""What S3NAS published, where the files are at hand: its table, its networks, its supernets."""

from pathlib import Path

import pytest

from hwprof.composition.composition import Scope
from hwprof.composition.pricing import choice_latencies
from hwprof.lut import load_lut
from hwprof.lut.importing import import_s3nas
from hwprof.ops import conv, fc, mbconv, mixconv
from hwprof.search.design import design_supernet
from hwprof.search.largest import additive_costs, choice_parameters, largest_network
from hwprof.search.scale import network_price
from hwprof.search.scaling_network import network_of
from hwprof.search.scaling_rules import ScalingRule, scaled
from hwprof.space import load_space

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "s3nas_midap_lut"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"S3NAS's published latencies are not at {FOLDER}"
)
S3, S5 = "3:4+5:2", "5:6"
M = (
    "3:2+5:2", "3:6", "3:6", S3, S3, S3, S3, S3, "3:6", "3:6", S3, S3, "3:2+5:2", "5:2",
    "3:2+5:4", "3:6", "3:4", "3:6", "3:2+5:2+7:2", *[S5] * 10,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return import_s3nas(FOLDER, tmp_path_factory.mktemp("midap") / "lut.parquet")


@pytest.fixture(scope="module")
def lut(made):
    return load_lut(made.out)


@pytest.fixture(scope="module")
def point():
    space = load_space("s3nas")
    labels = [[choice.label for choice in position.choices] for position in space.positions]
    chosen = [of.index(f"{label} relu") for of, label in zip(labels[1:-1], M, strict=True)]
    return (0, *chosen, 0)


def test_741_entries_are_561_ops_and_the_742nd_file_is_named(made, lut):
    assert made.entries == 741
    assert made.same == 180
    assert len(made.zeros) == made.heads == 2
    assert made.rows == len(lut) == made.entries - made.same - len(made.zeros) + made.heads == 561
    ((place, _),) = made.refused
    assert "ConvBlock_kxk1x1/r1_k5_s22_e6_i48_o48_c15_noskip_imgsize166_tmp" in place
    assert set(lut.table.column("state").to_pylist()) == {"imported"}
    assert lut.table.column("latency_low_ms").null_count == len(lut)


@pytest.mark.parametrize(
    ("op", "cycles"),
    [
        (conv((1, 3, 224, 224), 32, 7, stride=2, activation="relu"), 105211),
        (conv((1, 256, 7, 7), 1280, activation="relu"), 16689),
        (fc((1, 1280), 1000), 51466),
        (mbconv((1, 32, 56, 56), 32, 3, 2), 54425),
        (mbconv((1, 32, 56, 56), 32, 5, 6), 293089),
        (mbconv((1, 32, 56, 56), 32, 5, 6, residual=False), 285063),
        (mixconv((1, 32, 56, 56), 32, {3: 64, 5: 64, 7: 64}), 314929),
        (mixconv((1, 256, 7, 7), 256, {3: 512, 5: 512, 7: 512}), 61167),
    ],
)
def test_published_numbers_stand_under_their_ops(lut, op, cycles):
    assert lut.latency_ms(op) == pytest.approx(cycles / 1e6, rel=1e-12)


def test_the_published_network_m_takes_2461_microseconds(lut, point):
    costs = choice_latencies(lut, load_space("s3nas"))
    total = sum(of[choice] for of, choice in zip(costs, point, strict=True))
    assert total == pytest.approx(2.461, abs=0.0005)


def test_the_scaled_network_xl_takes_10800_microseconds(lut, point):
    network = scaled(network_of(load_space("s3nas"), point), 2.13, ScalingRule())
    (environment,) = lut.environments
    scope = Scope(environment, "s3nas", 1, "float32", "warm", "floor")
    assert network_price(lut, scope, network.ops()) == pytest.approx(10.80, abs=0.005)


@pytest.mark.parametrize("target_ms", [1.5, 2.0, 2.5])
def test_the_largest_network_ends_at_or_just_below_its_target(lut, target_ms):
    space = load_space("s3nas")
    costs = additive_costs(lut, space)
    found = largest_network(space, costs, choice_parameters(space), target_ms)
    assert 0.998 * target_ms < found.latency_ms <= target_ms
    assert found.score == found.score_bound
    assert costs.latency_ms(found.point) == found.latency_ms


def test_designed_supernets_are_within_a_block_a_stage_of_the_published_ones(lut):
    design = design_supernet(lut, load_space("s3nas"), 29)
    assert design.depths == (2, 4, 7, 5, 11)
    for theirs, ours in design.published:
        assert sum(theirs) == sum(ours)
        assert all(abs(a - b) <= 1 for a, b in zip(theirs, ours, strict=True))
    assert [theirs for theirs, _ in design.published] == [(3, 4, 7, 4, 11), (2, 3, 5, 2, 8)]
