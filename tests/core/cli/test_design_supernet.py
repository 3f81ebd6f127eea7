"""`hwprof design-supernet` as a user runs it."""

import json

import pytest
from click.testing import CliRunner

from hwprof.cli.main import cli
from hwprof.errors import SpaceError
from hwprof.lut.importing import import_s3nas
from hwprof.space import load_space

BLOCKS = {  # (width, side): cycles of S3NAS's published k5 e6 block
    (32, 56): 293089, (64, 28): 147417, (128, 14): 88262, (160, 14): 128091, (256, 7): 60942,
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    (folder / "MBConvBlock").mkdir()
    for (width, side), cycles in BLOCKS.items():
        name = f"r1_k5_s11_e6_i{width}_o{width}_c0_imgsize{side}"
        (folder / "MBConvBlock" / name).write_text(json.dumps({"latency": cycles}))
    out = tmp_path_factory.mktemp("lut") / "lut.parquet"
    import_s3nas(folder, out)
    return out


def run(*arguments):
    arguments = ["design-supernet", *map(str, arguments)]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_the_space_is_written_and_the_published_ones_are_shown(table, tmp_path):
    out = tmp_path / "my-space.yaml"
    done = run("--lut", table, "--blocks", 12, "--space", "s3nas", "--out", out, "--name", "mine")
    assert done.exit_code == 0
    assert done.stdout.startswith("s3nas: 12 blocks as 1-2-3-2-4")
    assert "published with 29 blocks: 3-4-7-4-11; by this table: 2-4-7-5-11" in done.stdout
    assert "published with 20 blocks: 2-3-5-2-8; by this table: 2-3-5-3-7" in done.stdout
    space = load_space(out)
    assert (space.name, space.blocks) == ("mine", 12)


def test_json_without_a_file(table):
    told = json.loads(run("--lut", table, "--blocks", 29, "--space", "s3nas", "--json").stdout)
    assert told["depths"] == [2, 4, 7, 5, 11]
    assert told["stages"][0]["latency_ms"] == pytest.approx(0.293089)
    assert told["out"] is None


def test_a_stage_too_deep_for_a_space_file_stops_it_before_anything_is_written(table, tmp_path):
    out = tmp_path / "my-space.yaml"
    with pytest.raises(SpaceError, match=r"^stage 5 would get 359 of 1000 blocks, .* about 713$"):
        run("--lut", table, "--blocks", 1000, "--space", "s3nas", "--out", out)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stops_it_before_anything_else(table, tmp_path):
    there = tmp_path / "there.yaml"
    there.write_text("mine\n")
    with pytest.raises(SpaceError, match="exists"):
        run("--lut", table, "--blocks", 29, "--space", "s3nas", "--out", there)
    assert there.read_text() == "mine\n"
