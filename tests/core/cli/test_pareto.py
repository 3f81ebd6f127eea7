"""`hwprof pareto` as it is typed: on a simulated device, on counts alone, on a replayed table."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.cli.searching import shortlist_lines
from hwprof.errors import HwprofError
from hwprof.lut import load_lut, write_lut
from hwprof.prediction import fit_family, save_predictor
from hwprof.prediction.knowledge import knowledge_of
from hwprof.prediction.predictor import Origin
from hwprof.space import load_space
from hwprof.space.nb201 import string_from_point


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast"))
    return path


def run(*arguments):
    return CliRunner().invoke(cli, ["pareto", *map(str, arguments)])


def by_index(space, point):
    return float(sum(point))


def not_a_number(space, point):
    return float("nan")


def gives_up(space, point):
    raise SystemExit(0)


MINE = f"+{__name__}:by_index"


def test_a_front_is_found_and_its_shortlist_measured_beside_what_was_predicted(table, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    command = ("--space", "tiny", "--lut", table, "--objectives", f"{MINE},latency")
    done = run(*command, "--queries", 60, "--out", tmp_path / "front", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["evaluated"] == 60
    assert told == json.loads((tmp_path / "front" / "front.json").read_text())
    assert 2 <= len(told["shortlist"]) <= 5
    for entry in told["shortlist"]:
        assert entry["measured_ms"] == pytest.approx(entry["predicted_ms"], rel=0.5)
        assert entry["values"]["latency"] == pytest.approx(entry["predicted_ms"])
    assert told["changes"]["measured"] == len(told["shortlist"])
    (ratio,) = {entry["rows_ratio"] for entry in told["shortlist"]}
    assert 0.5 < ratio < 2
    assert f"take {ratio:.3f} of their time in the table" in shortlist_lines(told, {})[-1]
    text = run(*command, "--queries", 60, "--out", tmp_path / "front")
    assert "shortlist, predicted and measured:" in text.stdout
    assert "pairs changed order" in text.stdout


def test_counts_need_no_table_and_the_report_says_that_nothing_was_measured(tmp_path):
    done = run(
        "--space", "tiny", "--objectives", f"{MINE},parameters,memory", "--queries", 30,
        "--search", "random", "--out", tmp_path / "front",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "shortlist: not measured (no table: give --lut)" in done.stdout
    told = json.loads((tmp_path / "front" / "front.json").read_text())
    assert [one["larger_is_better"] for one in told["objectives"]] == [True, False, False]
    assert len((tmp_path / "front" / "journal.jsonl").read_text().splitlines()) == 31


def test_a_table_of_known_networks_is_replayed(tmp_path):
    space = load_space("nb201")
    points = [(0, a, b, 3, c, 1, 1, 0, 0, 0) for a in range(5) for b in range(5) for c in range(5)]
    columns = {
        "arch": [string_from_point(space, point) for point in points],
        "accuracy": [float(sum(point)) for point in points],
        "board": [1.0 + point[1] + 2 * (4 - point[2]) for point in points],
    }
    path = tmp_path / "known.parquet"
    pq.write_table(pa.table(columns), path)
    done = run(
        "--space", "nb201", "--replay", path, "--objectives", "+column:accuracy,column:board",
        "--queries", 40, "--out", tmp_path / "front", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["evaluated"] == 40
    lacking = run(
        "--space", "nb201", "--replay", path, "--objectives", "+column:watts,column:board",
        "--out", tmp_path / "never",
    )  # fmt: skip
    assert "the table has no column 'watts'; choose of accuracy, board" in str(lacking.exception)
    assert not (tmp_path / "never").exists()


def test_another_search_does_not_go_on_in_the_same_folder(tmp_path):
    command = ("--space", "tiny", "--objectives", f"{MINE},parameters", "--queries", 20)
    assert run(*command, "--out", tmp_path / "front").exit_code == 0
    done = run(*command, "--search", "random", "--out", tmp_path / "front")
    assert isinstance(done.exception, HwprofError)
    assert "is of a search with search 'tnd-nas', not 'random'" in str(done.exception)


def refused(command, told):
    done = run(*command)
    assert isinstance(done.exception, HwprofError), done.output
    assert f"is of a search with {told}" in str(done.exception)


def test_a_function_that_was_changed_does_not_go_on_under_its_old_values(tmp_path, monkeypatch):
    source = tmp_path / "changing_score.py"
    source.write_text("def score(space, point): return float(sum(point))")
    monkeypatch.syspath_prepend(tmp_path)
    command = ("--space", "tiny", "--objectives", "+changing_score:score,parameters", "--queries", 20,
               "--out", tmp_path / "front")  # fmt: skip
    assert run(*command).exit_code == 0
    assert run(*command).exit_code == 0
    source.write_text("def score(space, point): return -float(sum(point))")
    refused(command, "sha256 of changing_score:score")


def test_a_replay_file_that_was_made_anew_does_not_go_on_under_its_old_values(tmp_path):
    space = load_space("nb201")
    points = [(0, a, b, 3, c, 1, 1, 0, 0, 0) for a in range(5) for b in range(5) for c in range(5)]
    strings = [string_from_point(space, point) for point in points]
    path = tmp_path / "known.parquet"
    pq.write_table(pa.table({"arch": strings, "ms": [float(sum(p)) for p in points]}), path)
    command = ("--space", "nb201", "--replay", path, "--objectives", "parameters,column:ms",
               "--queries", 20, "--out", tmp_path / "front")  # fmt: skip
    assert run(*command).exit_code == 0
    pq.write_table(pa.table({"arch": strings, "ms": [1.0 + sum(p) for p in points]}), path)
    refused(command, "sha256 of --replay")


def test_a_table_whose_rows_changed_does_not_go_on_and_one_that_was_added_to_does(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    path = tmp_path / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="exact", effort="fast"))
    content = load_lut(path).metadata["content_hash"]
    command = ("--space", "tiny", "--lut", path, "--objectives", f"{MINE},latency", "--queries", 20,
               "--shortlist", 1, "--out", tmp_path / "front")  # fmt: skip
    assert run(*command).exit_code == 0
    assert load_lut(path).metadata["content_hash"] != content
    assert run(*command).exit_code == 0
    refused((*command, "--allow-unstable"), "allow_unstable False, not True")
    refused((*command, "--statistic", "p50"), "statistic 'floor', not 'p50'")
    lut = load_lut(path)
    rows = lut.table.to_pylist()
    for row in rows:
        for column in ("latency_ms", "latency_low_ms", "latency_high_ms"):
            row[column] *= 1.01
    write_lut(path, rows, metadata={name: lut.metadata[name] for name in ("spaces", "environments")})
    refused(command, "sha256 of latency")


def save_fit(folder, metric, unit, factor):
    """A predictor of tiny, of values that its seeds fix but for the factor."""
    space = load_space("tiny")
    points = list(dict.fromkeys(space.sample(np.random.default_rng(seed)) for seed in range(80)))
    values = np.array([factor * (1.0 + sum(point)) for point in points])
    origin = Origin(metric, unit, len(points))
    save_predictor(
        fit_family(knowledge_of(space), points, values, members=["additive"], origin=origin), folder
    )


def test_a_predictor_that_was_fitted_again_does_not_go_on_under_its_old_values(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    folder = tmp_path / "fit"
    save_fit(folder, "latency_ms", "ms", 1.0)
    command = ("--space", "tiny", "--objectives", f"parameters,predictor:{folder}", "--queries", 20,
               "--out", tmp_path / "front")  # fmt: skip
    assert run(*command).exit_code == 0
    assert run(*command).exit_code == 0
    save_fit(folder, "latency_ms", "ms", 2.0)
    refused(command, f"sha256 of predictor:{folder}")
    save_fit(folder, "energy_mj", "mJ", 2.0)
    refused(command, "values ['parameters', 'predicted latency_ms (ms)']")


@pytest.mark.parametrize(
    ("objectives", "told"),
    [
        (f"parameters,{__name__}:not_a_number", "not_a_number is nan for network"),
        (f"parameters,{__name__}:gives_up", "gives_up raised SystemExit for network"),
        ("parameters,latency", "objective latency needs a table: --lut"),
        ("parameters,energy", "objective energy needs a table: --lut"),
        ("parameters,column:watts", "needs a table of known networks: --replay"),
        ("parameters,watts", "objective 'watts' is unknown; choose of parameters, flops"),
        ("parameters,no_such_module:score", "cannot be imported: No module named"),
        ("parameters,parameters", "one or more different ones"),
        ("parameters,predictor:nowhere", "nowhere"),
    ],
)
def test_a_wrong_objective_is_one_line_and_leaves_nothing(objectives, told, tmp_path):
    done = run("--space", "tiny", "--objectives", objectives, "--out", tmp_path / "front")
    assert isinstance(done.exception, HwprofError), done.output
    assert told in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_energy_that_no_row_has_is_named(table, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    done = run(
        "--space", "tiny", "--lut", table, "--objectives", "parameters,energy",
        "--out", tmp_path / "front",
    )  # fmt: skip
    assert isinstance(done.exception, HwprofError)
    assert "energy_mj" in str(done.exception)
    assert not (tmp_path / "front").exists()


def test_a_negative_seed_is_a_wrong_option(tmp_path):
    done = run(
        "--space", "tiny", "--objectives", "parameters", "--seed", -1, "--out", tmp_path / "front"
    )
    assert done.exit_code == 2, done.output
    assert "-1 is not in the range 0<=x<=" in done.output
