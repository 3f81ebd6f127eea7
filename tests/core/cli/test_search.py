"""`hwprof search` as it is typed, on a simulated device."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

import hwprof.space as space_package
from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.errors import HwprofError
from hwprof.lut import load_lut
from hwprof.search.engine.folder import alone
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
        (("--data", "missing.parquet", "--train-epochs", "nan"), "--train-epochs must be a number"),
        (("--data", "missing.parquet", "--train-epochs", "inf"), "--train-epochs must be a number"),
        (("--data", "missing.parquet", "--effort", "great"), "choose of fast, normal, rigorous"),
        (("--data", "missing.parquet", "--option", "speed=1"), "speed"),
        (("--data", "missing.parquet", "--batch", "0"), "no op rows of space tiny, batch 0"),
        (("--proxy", "params", "--size", "full"), "--size is of no use with --proxy"),
        (("--proxy", "params", "--warm", "x"), "--warm is of no use with --proxy"),
        (("--proxy", "params", "--seed", 2**64), "--seed"),
    ],
)
def test_bad_input_is_named(table, tmp_path, arguments, message):
    done = run(
        "--space", "tiny", "--lut", table, "--target-ms", 0.06, "--out", tmp_path / "f", *arguments
    )
    assert done.exit_code != 0
    assert message in f"{done.output} {done.exception}"
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_was_a_traceback(table, tmp_path, out):
    (tmp_path / "file").write_text("mine")
    done = run(
        "--space", "tiny", "--lut", table, "--target-ms", 0.06, "--proxy", "params", "--out",
        tmp_path / out,
    )  # fmt: skip
    assert isinstance(done.exception, HwprofError)
    assert f"folder {tmp_path / out} cannot be made" in str(done.exception)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_proxy_replaced_what_another_search_had_found(table, tmp_path):
    common = ("--space", "tiny", "--lut", table, "--proxy", "params", "--out", tmp_path / "found")
    assert run(*common, "--target-ms", 0.06).exit_code == 0
    before = (tmp_path / "found" / "found.json").read_bytes()
    other = run(*common, "--target-ms", 0.07)
    assert "holds a search with target_ms 0.06, this one has 0.07" in str(other.exception)
    assert (tmp_path / "found" / "found.json").read_bytes() == before
    assert run(*common, "--target-ms", 0.06).exit_code == 0


def test_two_searches_in_one_folder_wrote_over_each_other(table, tmp_path):
    with alone(tmp_path):
        done = run(
            "--space", "tiny", "--lut", table, "--proxy", "params", "--target-ms", 0.06, "--out",
            tmp_path,
        )  # fmt: skip
    assert f"another search works in {tmp_path}; wait for it" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


CALLS = []


def fails_at_the_fifth(space, point):
    CALLS.append(point)
    if len(CALLS) == 5:
        raise RuntimeError("unplugged")
    return float(sum(point))


def test_what_a_proxy_has_answered_is_not_asked_again(table, tmp_path):
    common = (
        "--space", "tiny", "--lut", table, "--target-ms", 0.06, "--out", tmp_path / "found",
        "--proxy", f"{__name__}:fails_at_the_fifth",
    )  # fmt: skip
    assert "unplugged" in str(run(*common).exception)
    first = list(CALLS)
    assert run(*common).exit_code == 0
    assert len(CALLS) > len(first)
    assert len(set(CALLS)) == len(CALLS) - 1, "only the one that failed is asked again"


def test_proxy_params_measures_a_shortlist_too_largest_first(table, tmp_path):
    done = run(
        "--space", "tiny", "--lut", table, "--target-ms", 0.06, "--proxy", "params", "--shortlist", 4,
        "--out", tmp_path / "found", "--json",
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert len({entry["op_id"] for entry in told["shortlist"]}) == 4
    sizes = [entry["parameters"] for entry in told["largest"]]
    assert sizes == sorted(sizes, reverse=True)
    assert all(entry["at_most"] >= entry["parameters"] for entry in told["largest"])
    latencies = [entry["predicted_ms"] for entry in told["shortlist"]]
    assert latencies == sorted(latencies, reverse=True)


def test_a_space_file_in_the_folder_of_the_search_is_its_own_copy(table, tmp_path):
    """It was an error at the very end."""
    text = Path(space_package.__file__).parent.joinpath("catalog", "tiny.yaml").read_text()
    own = tmp_path / "space.yaml"
    own.write_text(text)
    done = run(
        "--space", own, "--lut", table, "--target-ms", 0.06, "--proxy", "params", "--out", tmp_path
    )
    assert done.exit_code == 0, done.exception
    assert own.read_text() == text


def test_a_space_made_of_anothers_ops_is_searched_and_measured(table, tmp_path):
    """Rows are stored under the space that measured them first: such a search trained and then ended
    with 'no op rows of space'."""
    text = Path(space_package.__file__).parent.joinpath("catalog", "tiny.yaml").read_text()
    own = tmp_path / "deeper.yaml"
    own.write_text(text.replace("name: tiny", "name: deeper"))
    done = run(
        "--space", own, "--lut", table, "--target-ms", 0.06, "--proxy", "params", "--json", "--out",
        tmp_path / "found",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["measured_ms"] is not None


def test_bounds_are_named_where_neighbours_cost_together_too(table, tmp_path):
    for name in ("lut.parquet", "lut.visits.parquet"):
        shutil.copy(table.with_name(name), tmp_path / name)
    own = tmp_path / "lut.parquet"
    done = CliRunner().invoke(
        cli, ["calibrate", str(own), "--edges", "--model", "edges", "--networks", "6"]
    )
    assert done.exit_code == 0, done.output
    for target_ms, where in ((99, "above the slowest"), (0.0001, "below the fastest")):
        refused = run(
            "--space", "tiny", "--lut", own, "--target-ms", target_ms, "--data", "x", "--out",
            tmp_path / "found",
        )  # fmt: skip
        assert f"is {where} network of tiny: they take" in str(refused.exception)


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
