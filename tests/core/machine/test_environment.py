"""Environment: the hash of what decides a number, beside what is only recorded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof import environment as module
from hwprof.environment import Environment, environment
from hwprof.errors import BackendError, LutError
from hwprof.machine.fields import CONDITIONS, IDENTITY

RUNTIME = {"runtime": "onnxruntime", "runtime_version": "1.31.1", "graph_optimization": "all"}

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
objects = st.dictionaries(st.text(), plain | st.lists(plain), max_size=6)


def some_environment(**identity: object) -> Environment:
    return Environment({"device": "board", "threads": 1, "caches": [1, 2], **identity}, {"load": 0.1})


def test_two_calls_on_one_machine_give_the_same_identity():
    first, second = environment(RUNTIME, "cpu", 1), environment(RUNTIME, "cpu", 1)
    assert first.identity == second.identity
    assert first.environment_id == second.environment_id


def test_another_process_finds_the_same_environment_id():
    code = (
        "from hwprof.environment import environment\n"
        f"print(environment({RUNTIME!r}, 'cpu', 1).environment_id)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == environment(RUNTIME, "cpu", 1).environment_id


def test_identity_and_conditions_hold_every_documented_field():
    here = environment(RUNTIME, "cpu", 2)
    assert set(here.identity) == {*IDENTITY, *RUNTIME, "target", "threads"}
    assert set(here.conditions) == set(CONDITIONS)
    assert not set(IDENTITY) & set(CONDITIONS)


def test_a_change_of_any_condition_never_changes_the_id():
    here = environment(RUNTIME, "cpu", 1)
    for name in here.conditions:
        changed = Environment(here.identity, {**here.conditions, name: "something else"})
        assert changed.environment_id == here.environment_id
        assert changed != here


def test_a_change_of_any_identity_field_changes_the_id():
    here = environment(RUNTIME, "cpu", 1)
    ids = {
        Environment({**here.identity, name: "something else"}, here.conditions).environment_id
        for name in here.identity
    }
    assert here.environment_id not in ids
    assert len(ids) == len(here.identity)


def test_threads_target_and_runtime_options_are_identity():
    ids = {
        environment(RUNTIME, "cpu", 1).environment_id,
        environment(RUNTIME, "cpu", 2).environment_id,
        environment(RUNTIME, "cuda", 1).environment_id,
        environment({**RUNTIME, "runtime_version": "1.32.0"}, "cpu", 1).environment_id,
        environment({**RUNTIME, "graph_optimization": "basic"}, "cpu", 1).environment_id,
    }
    assert len(ids) == 5


def test_the_id_is_pinned_so_that_old_tables_stay_readable():
    assert some_environment().environment_id == "0c6f86d14b1873b6"


@given(objects, objects)
def test_json_round_trip_keeps_identity_conditions_and_id(identity, conditions):
    made = Environment(identity, conditions)
    again = Environment.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert hash(again) == hash(made)
    assert again.environment_id == made.environment_id


@given(st.permutations(list(RUNTIME)))
def test_the_order_of_fields_does_not_matter(names):
    assert some_environment(**{n: RUNTIME[n] for n in names}) == some_environment(**RUNTIME)
    assert (
        some_environment(**{n: RUNTIME[n] for n in names}).environment_id
        == some_environment(**RUNTIME).environment_id
    )


def test_tuples_and_lists_are_one_spelling():
    assert (
        some_environment(flags=("avx", "fma")).environment_id
        == some_environment(flags=["avx", "fma"]).environment_id
    )


@pytest.mark.parametrize(
    "data",
    [None, [], "text", {}, {"identity": {}}, {"identity": {}, "conditions": []},
     {"identity": {}, "conditions": {}, "more": 1}],
)  # fmt: skip
def test_a_damaged_environment_is_refused_in_one_line(data):
    with pytest.raises(LutError) as caught:
        Environment.from_dict(data)
    assert "\n" not in str(caught.value)


def test_differences_name_field_mine_and_theirs():
    mine = some_environment(virtualised=True, only_mine="x")
    theirs = some_environment(virtualised=True, threads=2, only_theirs="y")
    assert mine.differences(theirs) == [
        ("only_mine", "x", None),
        ("threads", 1, 2),
        ("only_theirs", None, "y"),
    ]
    assert mine.differences(mine) == []


def test_differences_ignore_conditions():
    assert some_environment().differences(Environment(some_environment().identity, {})) == []


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_is_an_error_that_says_what_to_pass(threads):
    with pytest.raises(BackendError, match=f"threads {threads} .*--threads"):
        environment(RUNTIME, "cpu", threads)


@pytest.mark.parametrize("name", ["device", "target", "threads"])
def test_a_backend_cannot_overwrite_a_field_of_the_machine(name):
    with pytest.raises(BackendError, match=name):
        environment({**RUNTIME, name: "mine"}, "cpu", 1)


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_a_backend_option_that_is_no_json_is_refused(value):
    with pytest.raises(BackendError, match="no plain JSON"):
        environment({**RUNTIME, "option": value}, "cpu", 1)


def test_description_is_one_line_with_what_matters():
    text = some_environment(
        core_kinds=["0x41:0xd03", "0x41:0xd08"], logical_cores=6, system="Linux", architecture="aarch64",
        cpu_limit=1.5, virtualised=True, target="cpu", **RUNTIME,
    ).describe()  # fmt: skip
    assert text == (
        "board (Cortex-A53 + Cortex-A72), 6 cores, Linux aarch64, limited to 1.5 CPUs, virtual, "
        "onnxruntime 1.31.1 cpu, 1 thread"
    )


def test_description_of_an_unreadable_machine_guesses_nothing():
    nothing = dict.fromkeys(IDENTITY)
    assert Environment(nothing, {}).describe() == "unknown processor"


def test_usable_cores_and_caches_are_positive_and_sorted():
    cores = module.usable_cores()
    assert len(cores) >= 1
    assert list(cores) == sorted(set(cores))
    assert all(level >= 1 and size > 0 for level, size in module.cache_bytes().items())


def test_timer_resolution_is_a_positive_number_of_nanoseconds():
    assert 0 < module.timer_resolution_ns() < 1e9


def test_import_is_light():
    code = "import sys, hwprof.environment; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pandas", "onnx", "torch", "click", "rich", "subprocess", "hwprof.machine.linux"}
    # Whatever a bare interpreter of this installation loads (its import hooks) is not our import.
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not heavy & (set(told.stdout.split()) - set(bare.stdout.split()))
