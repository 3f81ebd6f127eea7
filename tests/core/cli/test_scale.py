"""`hwprof scale` as a user runs it: rows of new shapes are measured, or an error says which lack."""

import json
from itertools import pairwise

import pytest
from click import UsageError
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.errors import BuildError, MissingRow, SpaceError
from hwprof.lut import load_lut, write_lut
from hwprof.search.scale import network_price, only_scope
from hwprof.space import load_space

POINT = "0,2,1,4,0"
SETTINGS = ("--effort", "fast", "--depth", 1, "--width", 1)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast"))
    return path


@pytest.fixture(scope="module")
def own_ms(table):
    """Latency of the unscaled network."""
    lut, space = load_lut(table), load_space("tiny")
    ops = space.point_ops(tuple(map(int, POINT.split(","))))
    return network_price(lut, only_scope(lut, space, None, None), ops)


def run(*arguments):
    return CliRunner().invoke(cli, ["scale", *map(str, arguments)], catch_exceptions=False)


def test_new_shapes_are_measured_and_the_largest_that_fits_is_written(table, own_ms, tmp_path):
    found = tmp_path / "found.json"
    found.write_text(json.dumps({"space": "tiny", "point": list(map(int, POINT.split(",")))}))
    out, target = tmp_path / "scaled.yaml", 1.8 * own_ms
    done = run(found, "--lut", table, "--target-ms", target, *SETTINGS, "--out", out, "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert own_ms < told["latency_ms"] <= target < told["next"]["latency_ms"]
    assert told["rows_measured"] > 0
    assert told["tried"][0] == {"phi": 0.0, "latency_ms": own_ms}
    assert f"phi {told['phi']:.2f}: " in done.stderr
    # The written network is the one that was priced, by rows that are in the table now.
    space, lut = load_space(out), load_lut(table)
    point = (0,) * len(space.positions)
    assert list(space.input_shape[1:]) == told["input"]
    price = network_price(lut, only_scope(lut, space, None, None), space.point_ops(point))
    assert price == pytest.approx(told["latency_ms"], rel=1e-12)
    # A second run finds every row there.
    again = run("tiny", "--point", POINT, "--lut", table, "--target-ms", target, *SETTINGS)
    assert again.exit_code == 0
    assert again.stdout.startswith(f"tiny: phi {told['phi']:.2f}, predicted ")
    assert "plain sum of rows, uncalibrated" in again.stdout
    assert "rows           0 measured for it" in again.stdout
    tried = [line for line in again.stderr.splitlines() if line.startswith("phi ")]
    assert len(tried) == len(told["tried"])
    assert all(a != b for a, b in pairwise(tried))


def test_an_imported_table_lists_the_rows_that_it_lacks(table, own_ms, tmp_path):
    lut = load_lut(table)
    rows = [
        row | {"state": "imported", "source": "imported"}
        for row in lut.filter(space="tiny").table.to_pylist()
        if row["height"] in (32, 16, 8)
    ]
    write_lut(tmp_path / "lut.parquet", rows, metadata={**lut.metadata, "composition": None})
    with pytest.raises(MissingRow, match=r"lacks \d rows .* imported, so none can be measured: conv_k3"):
        run("tiny", "--point", POINT, "--lut", tmp_path / "lut.parquet", "--target-ms", 4 * own_ms)


def test_in_another_environment_nothing_is_measured(table, own_ms, tmp_path):
    lut = load_lut(table)
    ((_, facts),) = lut.environments.items()
    other = {**facts, "identity": {**facts["identity"], "device": "another"}}
    rows = [row | {"environment_id": "another"} for row in lut.table.to_pylist() if row["height"] < 33]
    metadata = {"spaces": ["tiny"], "environments": {"another": other}}
    write_lut(tmp_path / "lut.parquet", rows, metadata=metadata)
    with pytest.raises(BuildError, match="device 'another' -> "):
        run("tiny", "--point", POINT, "--lut", tmp_path / "lut.parquet", "--target-ms", 20 * own_ms)
    assert len(load_lut(tmp_path / "lut.parquet")) == len(rows)


def test_a_target_below_the_network_says_its_latency(table, own_ms):
    with pytest.raises(SpaceError, match=f"the network's own latency, {own_ms:.4g} ms"):
        run("tiny", "--point", POINT, "--lut", table, "--target-ms", own_ms / 2)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("tiny",), UsageError),
        (("tiny", "--point", "a,b"), UsageError),
        (("net.json", "--point", "0"), UsageError),
        (("tiny", "--point", "0,1"), SpaceError),
        (("tiny", "--point", POINT, "--width", 0.5), SpaceError),
        (("tiny", "--point", POINT, "--out", "scaled.txt"), SpaceError),
    ],
)
def test_wrong_use_is_said_in_one_line(table, arguments, error):
    with pytest.raises(error) as raised:
        CliRunner().invoke(
            cli, ["scale", *map(str, arguments), "--lut", str(table), "--target-ms", "1"],
            catch_exceptions=False, standalone_mode=False,
        )  # fmt: skip
    assert "\n" not in str(raised.value)
