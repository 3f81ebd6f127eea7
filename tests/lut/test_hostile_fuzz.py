"""Many changed tables: whatever is in a file, each command answers or refuses in one line.

`benchmarks/fuzz_tables.py` does the same with 100,000 inputs in processes of their own.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("common", "fuzz_tables", "hostile_tables", "made_up")


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    """The examiner of `fuzz_tables.py`, and the parts of small tables and visits in many encodings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        tables, hostile = (importlib.import_module(name) for name in ("fuzz_tables", "hostile_tables"))
        seeds, folder = tmp_path_factory.mktemp("seeds"), tmp_path_factory.mktemp("fuzz")
        tables.make_seeds(seeds)
        examiner = tables.Examiner(seeds, folder)
        parts = {
            False: [hostile.take_apart(data) for data in hostile.variants(examiner.whole)],
            True: [
                hostile.take_apart(data)
                for data in hostile.variants(tables.visits_beside(examiner.whole))
            ],
        }
        yield examiner, parts, hostile, tables
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.mark.parametrize("visits", [False, True], ids=["table", "visits"])
def test_a_file_in_any_encoding_is_taken_apart_put_together_and_accepted(fuzz, visits):
    examiner, parts, hostile, _ = fuzz
    for each in parts[visits]:
        assert examiner.examine(hostile.put_together(each), visits, few=True) == "accepted"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(random=st.randoms(use_true_random=False), visits=st.booleans())
def test_a_change_of_structure_is_refused_in_one_line_or_does_no_harm(fuzz, random, visits):
    examiner, parts, hostile, tables = fuzz
    data = hostile.mutate(random.choice(parts[visits]), random)
    assert not examiner.examine(data, visits).startswith(tables.WRONG)


def test_a_fixed_set_of_changes_is_refused_in_one_line_or_does_no_harm(fuzz):
    """Hypothesis prefers simple changes; these are of all kinds."""
    examiner, parts, hostile, tables = fuzz
    for seed in range(300):
        random = Random(seed)
        visits = random.random() < 0.3
        data = hostile.mutate(random.choice(parts[visits]), random)
        outcome = examiner.examine(data, visits)
        assert not outcome.startswith(tables.WRONG), (seed, outcome)


def test_bytes_that_libfuzzer_changes_are_refused_in_one_line_or_do_no_harm(tmp_path):
    """In a process of its own: atheris ends the one it runs in."""
    pytest.importorskip("atheris", reason="pip install atheris (Linux)")
    command = [sys.executable, str(BENCHMARKS / "fuzz_tables.py"), "--engines", "bytes", "--inputs",
               "300",
               "--work", str(tmp_path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 inputs" in done.stdout
