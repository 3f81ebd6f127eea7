"""`hwprof doctor`: text, JSON and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from hwprof.cli.doctor import doctor
from hwprof.machine.facts import Facts, Spread

WELL = Facts(cores=(0, 1), machine_cores=(0, 1), timer_tick_ns=40, noise=Spread(2.0, 2.02))
POOR = replace(WELL, noise=Spread(2.0, 2.2))
SICK = replace(WELL, cores=(0,), machine_cores=(0,))


@pytest.fixture
def run(monkeypatch):
    def invoke(facts: Facts, *arguments: str):
        monkeypatch.setattr("hwprof.doctor.gather_facts", lambda: facts)
        return CliRunner().invoke(doctor, arguments)

    return invoke


@pytest.mark.parametrize(
    ("facts", "word", "code"), [(WELL, "ok", 0), (POOR, "warn", 0), (SICK, "bad", 1)]
)
def test_exit_code_is_1_only_for_a_bad_finding(run, facts, word, code):
    text, machine_readable = run(facts), run(facts, "--json")
    assert text.exit_code == machine_readable.exit_code == code
    assert text.output.splitlines()[-1] == f"verdict: {word}"
    assert json.loads(machine_readable.output)["verdict"] == word


def test_without_a_terminal_every_finding_is_one_plain_line(run):
    lines = run(SICK).output.splitlines()
    assert lines[1].startswith("bad     cores: 1 core (want 2 or more): ")
    assert len(lines) == 1 + 19 + 1
    assert not any("\x1b" in line for line in lines)


def test_on_a_terminal_advice_stands_below_the_table_with_its_command_in_one_piece(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    output = run(SICK).output
    assert "docker run --cpuset-cpus 0,1" in output
    assert "…" not in output


def test_json_holds_machine_conditions_and_findings(run):
    answer = json.loads(run(SICK, "--json").output)
    assert set(answer) == {"verdict", "machine", "conditions", "findings"}
    worst = answer["findings"][0]
    assert (worst["name"], worst["severity"], worst["value"]) == ("cores", "bad", 1)
    assert "logical_cores" in answer["machine"]


def test_help_has_an_example(run):
    assert "hwprof doctor --json" in run(WELL, "--help").output
