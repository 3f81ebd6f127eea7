"""Blocks of each stage from the latency of one block, and the space that is written."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwprof import ops
from hwprof.errors import MissingRow, SpaceError
from hwprof.search.design import design_supernet, distribute, reference_blocks, write_design
from hwprof.space import load_space

MIDAP_MS = (0.293089, 0.147417, 0.088262, 0.128091, 0.060942)  # S3NAS's published k5 e6 blocks


@pytest.fixture
def table(save, make):
    """A row for the reference block of each stage of `s3nas`."""
    blocks = reference_blocks(load_space("s3nas"), 5, 6)
    return save([make.row(op, ms) for op, ms in zip(blocks, MIDAP_MS, strict=True)])


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8), st.integers(0, 60))
def test_every_block_is_given_out_each_stage_gets_one_and_cheaper_stages_no_fewer(latencies, more):
    depths = distribute(latencies, len(latencies) + more)
    assert sum(depths) == len(latencies) + more
    assert min(depths) >= 1
    for (mine, a), (theirs, b) in zip(
        sorted(zip(latencies, depths, strict=True))[:-1],
        sorted(zip(latencies, depths, strict=True))[1:],
        strict=True,
    ):
        assert a >= b or mine == theirs


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_shares_that_are_whole_are_given_as_they_are(depths):
    assert distribute([1 / depth for depth in depths], sum(depths)) == tuple(depths)


@pytest.mark.parametrize(
    ("latencies", "blocks", "depths"),
    [
        ((1.0, 1.0, 1.0), 4, (1, 1, 2)),  # equal remainders: the later stage
        ((100.0, 1.0, 1.0), 5, (1, 2, 2)),  # a share below one is one, the others share the rest
        ((1.0, 2.0), 2, (1, 1)),
    ],
)
def test_rounding_is_by_the_stated_rule(latencies, blocks, depths):
    assert distribute(latencies, blocks) == depths


@pytest.mark.parametrize("blocks", [4, 0, -1, 5 * 256 + 1])
def test_too_few_or_too_many_blocks_say_what_is_possible(blocks):
    with pytest.raises(SpaceError, match="do not fill 5 stages; give 5 to 1280"):
        distribute(MIDAP_MS, blocks)


def test_a_stage_with_more_blocks_than_a_space_file_allows_is_named_with_what_fits():
    with pytest.raises(SpaceError, match=r"stage 1 would get 364 of 400 .* allows 256 .* about 281$"):
        distribute((1.0, 10.0), 400)
    assert distribute((1.0, 10.0), 281) == (255, 26)
    assert distribute((1.0, 1.0), 512) == (256, 256)


def test_a_design_shows_the_published_supernets_beside_its_own(table):
    design = design_supernet(table, load_space("s3nas"), 29)
    assert design.depths == (2, 4, 7, 5, 11)
    assert design.published == (((3, 4, 7, 4, 11), (2, 4, 7, 5, 11)), ((2, 3, 5, 2, 8), (2, 3, 5, 3, 7)))
    assert [round(stage.share, 1) for stage in design.stages] == [2.2, 4.3, 7.2, 4.9, 10.4]
    assert design.stages[0].reference == ops.mbconv((1, 32, 56, 56), 32, 5, 6)


def test_the_written_space_has_the_blocks_and_else_what_the_base_has(table, tmp_path):
    base = load_space("s3nas")
    space = write_design(design_supernet(table, base, 20), "s3nas", tmp_path / "my.yaml")
    assert space == load_space(tmp_path / "my.yaml")
    assert space.name == "s3nas-20"
    names = [position.name for position in space.positions if position.kind == "block"]
    depths = [sum(name.startswith(f"stage{n}.") for name in names) for n in range(1, 6)]
    assert depths == [2, 3, 5, 3, 7]
    assert set(space.ops()) == set(base.ops())
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".parquet"] == ["my.yaml"]


def test_a_base_of_ones_own_keeps_the_blocks_of_its_stages(save, make, tmp_path):
    base = tmp_path / "base.yaml"
    block = {"kind": "mbconv", "kernel": [3, 5], "expansion": [6], "activation": "hswish"}
    content = {
        "name": "mine", "family": "chain", "summary": "Two stages", "input": [3, 32, 32],
        "stem": {"channels": 8, "kernel": 3, "stride": 1, "activation": "relu"},
        "stages": [
            {"blocks": 1, "channels": 8, "stride": 2, "block": block},
            {"blocks": 1, "channels": 16, "stride": 2},
        ],
        "block": {**block, "kind": "fused_mbconv", "activation": "relu"},
        "head": {"activation": "relu", "classes": 10},
    }  # fmt: skip
    base.write_text(json.dumps(content))
    space = load_space(base)
    blocks = reference_blocks(space, 3, 6)
    assert blocks == [
        ops.mbconv((1, 8, 16, 16), 8, 3, 6, activation="hswish"),
        ops.mbconv((1, 16, 8, 8), 16, 3, 6),
    ]
    table = save([make.row(blocks[0], 2.0), make.row(blocks[1], 1.0)])
    design = design_supernet(table, space, 6, kernel=3)
    assert design.depths == (2, 4)
    assert design.published == ()
    written = write_design(design, str(base), tmp_path / "out.yaml", "deeper")
    again = yaml.safe_load((tmp_path / "out.yaml").read_text())
    assert written.name == "deeper"
    assert {**again, "name": "mine", "summary": "Two stages"} == {
        **content,
        "stages": [{**content["stages"][0], "blocks": 2}, {**content["stages"][1], "blocks": 4}],
    }


def test_missing_blocks_a_cell_space_and_a_file_that_is_there_are_errors(table, pool_lut, tmp_path):
    with pytest.raises(MissingRow, match="5 ops have no usable row"):
        design_supernet(pool_lut, load_space("s3nas"), 29)
    with pytest.raises(SpaceError, match="nb201 is a cell space"):
        design_supernet(table, load_space("nb201"), 29)
    design = design_supernet(table, load_space("s3nas"), 29)
    there = tmp_path / "there.yaml"
    there.write_text("mine\n")
    with pytest.raises(SpaceError, match="exists; give another name"):
        write_design(design, "s3nas", there)
    assert there.read_text() == "mine\n"
    with pytest.raises(SpaceError, match=r"does not end in \.yaml"):
        write_design(design, "s3nas", tmp_path / "my.txt")
    with pytest.raises(SpaceError, match="does not exist; make it first"):
        write_design(design, "s3nas", tmp_path / "no" / "my.yaml")
