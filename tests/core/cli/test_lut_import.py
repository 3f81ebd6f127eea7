"""`hwprof lut import` as a user runs it."""

import json

import pytest
from click.testing import CliRunner

from hwprof.cli.lut_import import FORMATS
from hwprof.cli.main import cli
from hwprof.errors import LutError
from hwprof.lut import importing, load_lut

FILES = {
    "MBConvBlock/r1_k3_s11_e6_i32_o32_c0_imgsize56": '{"latency": 150529}',
    "MBConvBlock/r1_k3_s11_e6_i32_o32_c0_imgsize56_tmp": "[Errno 2] No such file or directory",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "published" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "published"


def run(*arguments):
    arguments = ["lut", "import", *map(str, arguments)]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_import_says_what_it_read_and_names_what_it_did_not(folder, tmp_path):
    out = tmp_path / "lut.parquet"
    done = run(folder, "--format", "s3nas", "--out", out)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{out}: 1 rows from 1 entries, environment ")
    assert "not read: 'MBConvBlock/r1_k3_s11_e6_i32_o32_c0_imgsize56_tmp': the name" in done.stdout
    info = CliRunner().invoke(cli, ["lut", "info", str(out)]).stdout
    assert "1 imported" in info
    assert "MIDAP, MidapSim" in info


def test_json_is_one_value_and_an_origin_of_ones_own_is_taken(folder, tmp_path):
    out = tmp_path / "lut.parquet"
    own = ("--device", "board", "--runtime", "tflite", "--per-ms", 1000)
    told = json.loads(run(folder, "--format", "s3nas", "--out", out, *own, "--json").stdout)
    assert (told["rows"], told["entries"], len(told["refused"])) == (1, 1, 1)
    lut = load_lut(out)
    assert lut.table.column("latency_ms").to_pylist() == [150.529]
    assert lut.environments[told["environment_id"]]["identity"]["device"] == "board"


def test_wrong_use_is_an_error(folder, tmp_path):
    assert run(folder, "--format", "nni", "--out", tmp_path / "lut.parquet").exit_code == 2
    with pytest.raises(LutError, match="is no folder"):
        run(tmp_path / "none", "--format", "s3nas", "--out", tmp_path / "lut.parquet")


def test_the_command_offers_every_format_that_can_be_imported():
    assert set(FORMATS) == {"s3nas", *importing.FORMATS}


TABLE = "Type,cin,cout,t\nfc,3,4,1500\ncnov,3,4,1500\n"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "mine.csv").write_text(TABLE)
    return tmp_path / "mine.csv"


MAPS = ("--map", "latency_us=t, kind=Type", "--map", "in_channels=cin,out_channels=cout")
BOARD = ("--device", "board", "--runtime", "own")


def test_a_csv_is_mapped_by_repeated_options(table, tmp_path):
    out = tmp_path / "lut.parquet"
    done = run(table, "--format", "csv", "--out", out, *BOARD, *MAPS)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{out}: 1 rows from 1 entries, environment ")
    assert "not read: line 3 cnov: kind 'cnov' is none of" in done.stdout
    assert load_lut(out).table.column("latency_ms").to_pylist() == [1.5]


def test_json_of_a_table_names_all_that_was_left_out(table, tmp_path):
    table.write_text(TABLE + "cnov,3,4,1\n" * 30)
    arguments = (table, "--format", "csv", *BOARD, *MAPS, "--out")
    told = json.loads(run(*arguments, tmp_path / "a.parquet", "--json").stdout)
    assert (told["rows"], len(told["refused"])) == (1, 31)
    text = run(*arguments, tmp_path / "b.parquet").stdout
    assert "not read: 11 more; --json names all" in text
    assert len(text.splitlines()) == 22


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--format", "csv", "--map", "kind"), "--map 'kind' is no FIELD=COLUMN"),
        (("--format", "csv", "--map", "kind=a,kind=b"), "names the field again"),
        (("--format", "csv", "--layers", "imagenet"), "format csv takes no layers"),
        (("--format", "s3nas", "--metric", "x"), "s3nas takes --device, --runtime and --per-ms alone"),
        (("--format", "csv", *MAPS), "does not tell its device; give --device NAME"),
        (("--format", "csv", "--threads", 0), "threads 0 is not 1 to 4096"),
    ],
)
def test_what_a_format_does_not_take_is_one_line(table, tmp_path, arguments, why):
    with pytest.raises(LutError, match=why):
        run(table, "--out", tmp_path / "lut.parquet", *arguments)
    assert not (tmp_path / "lut.parquet").exists()
