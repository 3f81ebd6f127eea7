"""`hwprof calibrate` and `hwprof validate` as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click import UsageError
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.cli.validation import additive_text
from hwprof.errors import BackendUnavailable, LutError
from hwprof.lut import load_lut


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", path, target="quiet", effort="fast"))
    return path


def run(*arguments, code=0):
    """Standard output of a command that ends with this exit code."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def test_calibrate_then_validate_and_what_info_says_before_and_after(table, tmp_path):
    before = run("lut", "info", table)
    assert "composition      uncalibrated; hwprof calibrate fits one" in before
    told = run("calibrate", table, "--networks", 6, "--effort", "fast")
    assert f"{table}: calibrated on 6 networks in " in told
    assert "tiny floor: " in told
    assert "mean error of each model: sum " in told
    picture = tmp_path / "errors.png"
    told = run("validate", table, "--networks", 6, "--effort", "fast", "--plot", picture)
    assert f"{table}: 6 held-out networks of tiny, floor, " in told
    assert "noise floor    0." in told
    assert "worst: network_" in told
    assert picture.read_bytes().startswith(b"\x89PNG")
    after = run("lut", "info", table)
    assert "composition      tiny floor: " in after
    assert "fitted on 6 networks to" in after
    assert "validated error  tiny floor: mean " in after


def test_validate_prints_one_json_value_and_judges_by_the_asked_bound(table):
    found = json.loads(run("validate", table, "--networks", 4, "--effort", "fast", "--json"))
    assert found["networks"] == 4
    assert found["space"] == "tiny"
    bound = found["mean_error"] / 2
    run("validate", table, "--networks", 4, "--effort", "fast", "--max-error", bound, code=1)
    run("validate", table, "--networks", 4, "--effort", "fast", "--max-error", 0.5)


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_measured(table):
    before = table.read_bytes()
    for place, message in (
        ("errors.pdf", "a plot is .png or .svg"),
        ("no/such/e.png", "does not exist"),
    ):
        with pytest.raises(LutError, match=message):
            run("validate", table, "--networks", 4, "--plot", place)
    assert table.read_bytes() == before


def test_without_matplotlib_the_command_says_what_installs_it(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'hwprof\[plot\]'"):
        run("validate", table, "--networks", 4, "--plot", "errors.png")


def test_a_table_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(LutError, match=r"missing\.parquet"):
        run("calibrate", tmp_path / "missing.parquet")
    assert list(Path(tmp_path).iterdir()) == []


def test_rebuild_measures_some_rows_again_and_says_whether_they_agree(table):
    before = table.read_bytes()
    told = run("validate", table, "--rebuild", 5, "--effort", "fast")
    assert "5" in told
    found = json.loads(run("validate", table, "--rebuild", 5, "--effort", "fast", "--json"))
    assert (found["drawn"], found["agrees"]) == (5, True)
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [["--plot", "e.png"], ["--statistic", "p50"], ["--networks", "100"], ["--measured-in", "here"]],
)
def test_rebuild_takes_no_options_of_networks(table, options):
    with pytest.raises(UsageError, match=f"--rebuild measures rows, .* leave out {options[0]}$"):
        CliRunner().invoke(
            cli, ["validate", str(table), "--rebuild", "5", *options],
            standalone_mode=False, catch_exceptions=False,
        )  # fmt: skip


def test_report_is_printed_even_where_its_plot_cannot_be_written(table, tmp_path):
    """After ten minutes of measuring."""
    folder = tmp_path / "errors.png"
    folder.mkdir()
    done = CliRunner().invoke(
        cli, ["validate", str(table), "--networks", "4", "--effort", "fast", "--plot", str(folder)]
    )
    assert isinstance(done.exception, LutError)
    assert f"{table}: 4 held-out networks of tiny" in done.stdout


def visits_below(folder):
    """Visits in the journals below a folder. `rglob` raised where a worker's folder vanished."""
    journals = [Path(place, "journal") for place, _, files in os.walk(folder) if "journal" in files]
    return sum(path.read_bytes().count(b'"type":"visit"') for path in journals)


@pytest.mark.parametrize(
    ("words", "next_step"),
    [
        (["calibrate", "--networks", "8"], "what was measured is kept; give the same command to go on"),
        (["validate", "--networks", "8"], "what was measured is kept; give the same command to go on"),
        (["validate", "--rebuild", "9"], "the table is as it was; give the same command to start over"),
    ],
)
def test_ctrl_c_ends_with_code_130_and_says_what_becomes_of_it(table, tmp_path, words, next_step):
    for name in ("lut.parquet", "lut.visits.parquet"):
        shutil.copy(table.with_name(name), tmp_path / name)
    own = tmp_path / "lut.parquet"
    before = own.read_bytes()
    command = [sys.executable, "-m", "hwprof", words[0], str(own), *words[1:], "--effort", "fast"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def start():
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    running = start()
    for _ in range(6000):  # bounded; no clock decides the outcome
        if visits_below(tmp_path) > 9:
            break
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    printed, errors = running.communicate(timeout=60)
    assert (running.returncode, printed) == (130, ""), errors
    assert errors.endswith(f"hwprof: interrupted: {next_step}\n")
    assert "Traceback" not in errors
    if "--rebuild" in words:
        assert own.read_bytes() == before
        return
    assert len(load_lut(own).filter(granularity="network")) > 0
    if words[0] == "validate":
        return
    again = start()
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert int(errors.split("resuming: ")[1].split()[0]) > 9


def words_of(**changed):
    """The lines of a report that say whether rows add up."""
    composition = SimpleNamespace(uses_edges=changed.pop("uses_edges", False))
    facts = {"edges_needed": False, "additive": False, "measured_in": None, "chain": True}
    errors = SimpleNamespace(mean=0.123)
    report = SimpleNamespace(
        **{**facts, "errors": errors, "composition": composition, "without_edges": 0.2, **changed}
    )
    return " ".join(additive_text(Path("lut.parquet"), report))


def test_rows_that_do_not_add_up_are_told_with_the_figure_and_what_there_is_to_do():
    assert words_of(additive=True) == ""
    plain = words_of()
    assert "not additive here: 12.3% is far above the noise floor" in plain
    assert plain.endswith("hwprof calibrate lut.parquet --edges")
    assert words_of(uses_edges=True).endswith("are in the model and do not make up for it")
    assert "--edges" not in words_of(chain=False)
    assert words_of(chain=False).endswith("--members additive,pairwise")
    rescued = words_of(additive=True, uses_edges=True, edges_needed=True)
    assert "not additive here: 20.0% without interaction terms; edges" in rescued
    assert rescued.endswith("bring it to 12.3%")
    assert "not additive" not in words_of(measured_in="0123456789abcdef")
