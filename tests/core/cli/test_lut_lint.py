"""`hwprof lut lint`: what it prints, and the exit code that a CI job reads."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.lut import lut as command
from hwprof.errors import LutError, SpaceError


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A simulated table of `tiny`, and a copy that names another backend."""
    out = tmp_path_factory.mktemp("lint") / "lut.parquet"
    build_lut(BuildOptions("simulated", "tiny", out, target="exact", effort="fast"))
    return out


@pytest.fixture
def run():
    def invoke(*words):
        result = CliRunner().invoke(command, ["lint", *map(str, words)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def rewrite(clean, tmp_path):
    """The clean table with the values of some columns replaced, as another tool would write it."""

    def written(name="bad.parquet", rows=slice(None), **columns):
        content = pq.read_table(clean)
        for column, change in columns.items():
            at = content.schema.get_field_index(column)
            values = [change(value) for value in content.column(column).to_pylist()]
            content = content.set_column(
                at, content.schema.field(at), pa.array(values, content.schema.field(at).type)
            )
        path = tmp_path / name
        pq.write_table(content.take(pa.array(range(content.num_rows)[rows])), path)
        return path

    return written


def test_a_clean_table_prints_nothing_and_passes(run, clean):
    result = run(clean, "--space", "tiny", "--against", clean, "--severity", "note", "--max-age", 1)
    assert (result.exit_code, result.output) == (0, "")


def test_an_error_fails_and_names_the_row(run, rewrite):
    result = run(rewrite(latency_ms=lambda ms: -ms))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("error: values: latency_ms is zero or negative in 10 rows (first: -")
    assert lines[-1] == "1 error"


@pytest.mark.parametrize(("severity", "code"), [("note", 1), ("warning", 1), ("error", 0)])
def test_the_severity_decides_the_exit_code(run, rewrite, severity, code):
    partial = rewrite(rows=slice(3, None))
    result = run(partial, "--severity", severity)
    assert result.exit_code == code
    assert "warning: holes: 3 of 10 ops of tiny have no usable row" in result.stdout


def test_warnings_alone_pass_by_default(run, rewrite):
    assert run(rewrite(rows=slice(3, None))).exit_code == 0


def test_json_holds_every_finding_with_its_ids(run, rewrite):
    path = rewrite(latency_ms=lambda ms: 0.0)
    result = run(path, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["path"] == str(path)
    assert found["findings"][0]["severity"] == "error"
    assert found["findings"][0]["rule"] == "values"
    assert len(found["findings"][0]["row_ids"]) == 10
    assert json.loads(run(rewrite(), "--json").stdout)["findings"] == []


def test_another_devices_table_is_compared(run, rewrite):
    own = rewrite("own.parquet", backend=lambda _: "onnxruntime")
    phone = rewrite("phone.parquet", backend=lambda _: "tflite", environment_id=lambda _: "f" * 16)
    result = run(own, "--against", phone)
    assert result.exit_code == 1
    assert "error: copies: 10 of 10 rows have the same latency to the bit" in result.stdout


def test_an_age_is_asked_for_in_days(run, rewrite):
    from datetime import timedelta

    old = rewrite(started_at=lambda moment: moment - timedelta(days=40))
    assert run(old, "--severity", "note").output == ""
    assert "10 rows are older than 30 days" in run(old, "--max-age", 30).stdout


def test_many_findings_of_a_rule_are_cut_in_text_alone(run, rewrite, monkeypatch):
    monkeypatch.setattr("hwprof.cli.lut_lint.SHOWN", 2)
    times = {name: (lambda ms: -ms) for name in ("min_ms", "p10_ms", "p50_ms", "p90_ms")}
    path = rewrite(**times)
    assert "error: values: and 2 more; --json lists all" in run(path).stdout
    findings = json.loads(run(path, "--json").stdout)["findings"]
    assert sum(finding["rule"] == "values" for finding in findings) == 4


def test_wrong_input_is_one_clear_error(run, clean, tmp_path):
    with pytest.raises(LutError, match="does not exist"):
        run(tmp_path / "no.parquet")
    with pytest.raises(LutError, match="does not exist"):
        run(clean, "--against", tmp_path / "no.parquet")
    with pytest.raises(SpaceError, match="unknown"):
        run(clean, "--space", "tinny")
    assert run(clean, "--severity", "bad").exit_code == 2
