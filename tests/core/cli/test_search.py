"""`hwprof search` as it is typed, on a simulated device."""

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.errors import HwprofError
from hwprof.lut import load_lut
from hwprof.search.scale import read_found


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast"))
    return path


def run(*arguments):
    return CliRunner().invoke(cli, ["search", *map(str, arguments)])


def by_index(space, point):
    return float(sum(point))


def raises(space, point):
    raise RuntimeError("no GPU")


def gives_nan(space, point):
    return float("nan")


def test_proxy_params_finds_measures_and_leaves_what_other_devices_need(table, tmp_path):
    common = ("--space", "tiny", "--lut", table, "--proxy", "params")
    bounds = run(*common, "--target-ms", 99, "--out", tmp_path / "never")
    assert isinstance(bounds.exception, HwprofError)
    low, high = (
        float(word) for word in str(bounds.exception).split("take ")[1].split(" ms")[0].split(" to ")
    )
    target_ms = (low + high) / 2
    done = run(*common, "--target-ms", target_ms, "--out", tmp_path / "found", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["measured_ms"] is not None
    assert told["predicted_ms"] <= target_ms
    assert told["accuracy"] is None
    found = read_found(tmp_path / "found" / "found.json")
    assert found.point == tuple(told["point"])
    again = tmp_path / "again.parquet"
    measure = str(tmp_path / "found" / "measure.yaml")
    build_lut(BuildOptions("onnxruntime", measure, again, effort="fast"))
    (row,) = load_lut(again).table.to_pylist()
    assert row["latency_ms"] > 0
    assert row["kind"] == "subgraph"


def test_a_proxy_of_ones_own_is_called_with_space_and_point(table, tmp_path):
    name = f"{__name__}:by_index"
    bounds = run(
        "--space", "tiny", "--lut", table, "--proxy", name, "--target-ms", 0.001, "--out", tmp_path
    )
    assert "below the fastest network of tiny" in str(bounds.exception)
    done = run(
        "--space", "tiny", "--lut", table, "--proxy", name, "--target-ms", 0.06, "--out", tmp_path / "f",
        "--json",
    )  # fmt: skip
    if done.exit_code:
        pytest.fail(str(done.exception))
    told = json.loads(done.stdout)
    assert len(told["shortlist"]) <= 3
    assert told["measured_ms"] <= 0.06 * 1.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --data"),
        (("--proxy", "params", "--data", "x"), "one of them"),
        (("--proxy", "nothing"), "neither params nor MODULE:FUNCTION"),
        (("--proxy", "nowhere:f"), "cannot be imported"),
        (("--proxy", f"{__name__}:raises"), "raises raised RuntimeError for network"),
        (("--proxy", f"{__name__}:gives_nan"), "gives_nan is nan for network"),
        (("--proxy", "params", "--statistic", "mean"), "choose of floor, p50"),
        (("--data", "missing.parquet"), "is not there"),
        (("--data", "missing.parquet", "--size", "huge"), "choose of auto, full, reduced, smoke"),
        (("--data", "missing.parquet", "--device", "tpu"), "choose of auto, cpu, cuda"),
    ],
)
def test_bad_input_is_named(table, tmp_path, arguments, message):
    done = run(
        "--space", "tiny", "--lut", table, "--target-ms", 0.06, "--out", tmp_path / "f", *arguments
    )
    assert done.exit_code != 0
    assert message in f"{done.output} {done.exception}"
    assert not (tmp_path / "f").exists()


def test_table_of_another_space_is_refused(table, tmp_path):
    done = run(
        "--space",
        "s3nas-cifar",
        "--lut",
        table,
        "--target-ms",
        1,
        "--proxy",
        "params",
        "--out",
        tmp_path,
    )
    assert isinstance(done.exception, HwprofError)
    assert "s3nas-cifar" in str(done.exception) or "row" in str(done.exception)


def test_missing_packages_are_named_with_what_installs_them(table, tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.cli.search.PACKAGES", ("torch", "no_such_package"))
    done = run(
        "--space", "tiny", "--lut", table, "--target-ms", 1, "--proxy", "params", "--out", tmp_path
    )
    assert "a search needs no_such_package; run: pip install 'hwprof[search]'" in str(done.exception)
