"""Look-ups, filters and what is said when there is no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwprof
from hwprof.errors import LutError, MissingRow
from hwprof.lut import load_lut, write_lut
from hwprof.ops import conv, mbconv
from hwprof.space import load_space


def test_find_returns_the_whole_row_by_op_and_by_id(lut, rows, make):
    for op, row in zip(make.ops, rows, strict=True):
        found = lut.find(op)
        assert found == lut.find(op.op_id)
        assert found.keys() == row.keys()
        assert {k: v for k, v in found.items() if not isinstance(v, float)} == {
            k: v for k, v in row.items() if not isinstance(v, float)
        }
        assert found["latency_ms"] == row["latency_ms"]


def test_load_lut_is_at_hand_from_the_top_of_the_package(lut, make):
    assert hwprof.load_lut(lut.path).latency_ms(make.ops[1]) == 2.0


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_look_up_returns_the_row_that_was_written(data, make, tmp_path_factory):
    size = st.integers(1, 64)
    pairs = data.draw(
        st.dictionaries(st.builds(lambda c, o: conv((1, c, 8, 8), o), size, size), st.floats(1e-6, 1e6))
    )
    path = tmp_path_factory.mktemp("find") / "lut.parquet"
    write_lut(path, [make.row(op, ms) for op, ms in pairs.items()], metadata=make.metadata)
    lut = load_lut(path)
    if pairs:
        asked = data.draw(st.lists(st.sampled_from(list(pairs))))
        assert lut.latencies_ms(asked).tolist() == [pairs[op] for op in asked]
        assert all(lut.find(op)["op_json"] == op.to_json() for op in asked[:3])


def test_look_ups_keep_order_repetition_and_shape(lut, make):
    a, b = make.ops[3].op_id, make.ops[0].op_id
    assert lut.latencies_ms([a, b, a]).tolist() == [4.0, 1.0, 4.0]
    grid = np.array([[a, b], [b, b]])
    assert lut.latencies_ms(grid).tolist() == [[4.0, 1.0], [1.0, 1.0]]
    assert lut.latencies_ms(grid).dtype == np.float64
    assert lut.latencies_ms([]).shape == (0,)


def test_other_numbers_of_a_row_can_be_looked_up(lut, make):
    assert lut.latencies_ms([make.ops[0]], "p50_ms").tolist() == [np.float32(1.1)]
    assert lut.latencies_ms([make.ops[0]], "flops")[0] == lut.find(make.ops[0])["flops"]
    with pytest.raises(LutError, match="column 'label' is no number; choose of batch"):
        lut.latencies_ms([make.ops[0]], "label")


def test_a_null_number_is_an_error_and_never_nan(lut, make):
    with pytest.raises(MissingRow, match="energy_mj is null in 6 of the rows") as caught:
        lut.latencies_ms(make.ops, "energy_mj")
    assert make.ops[0].label in str(caught.value)


def test_a_missing_row_names_the_op_the_nearest_rows_and_the_command(lut, make):
    absent = mbconv((1, 16, 16, 16), 16, kernel=5, expansion=6, activation="relu6")
    with pytest.raises(MissingRow) as caught:
        lut.find(absent)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{absent.label} (op id {absent.op_id}) has no row in {lut.path}")
    near = message.split("nearest rows: ")[1].split(";")[0]
    assert near.startswith(f"{make.ops[1].label} (2 ms), {make.ops[2].label} (3 ms), ")
    assert near.count(" ms)") == 3
    assert "hwprof build-lut --backend onnxruntime --target cpu --threads 1" in message
    assert "--space SPACE.yaml" in message
    assert f"--out {lut.path}" in message


def test_the_command_names_the_shipped_space_that_holds_the_op(lut):
    op = load_space("tiny").ops()[-1]
    with pytest.raises(MissingRow, match=f"--space tiny --out {lut.path}$"):
        lut.find(op)


def test_the_command_repeats_batch_and_dtype(lut):
    op = load_space("tiny").with_options(4, "float16").ops()[0]
    with pytest.raises(MissingRow, match="--threads 1 --batch 4 --dtype float16 --space tiny"):
        lut.find(op)


def test_rows_without_a_number_to_trust_are_not_offered_as_nearest(save, make):
    lut = save([make.row(op, None) for op in make.ops])
    with pytest.raises(MissingRow, match="no row near it is usable"):
        lut.find(conv((1, 3, 9, 9), 4))


@pytest.mark.parametrize("kind", [str, "U20", "S20", object])
def test_a_missing_id_is_named_alike_however_it_was_given(lut, kind):
    ids = ["0" * 20, "0" * 20]
    with pytest.raises(MissingRow, match=f"^op id {'0' * 20} has no row"):
        lut.latencies_ms(ids if kind is str else np.array(ids, kind))


def test_an_unknown_id_cannot_be_labelled_but_is_named(lut):
    with pytest.raises(
        MissingRow, match=f"op id {'0' * 20} has no row in .*; measure it: hwprof build-lut"
    ):
        lut.find("0" * 20)


@pytest.mark.parametrize("state", ["failed", "timeout", "unsupported"])
def test_a_row_without_a_number_says_state_reason_and_next_step(save, make, state):
    lut = save([make.row(make.ops[0], None, state=state, reason="segmentation fault")])
    with pytest.raises(MissingRow) as caught:
        lut.latency_ms(make.ops[0], allow_unstable=True)
    assert f"{make.ops[0].label} is in state {state} (segmentation fault)" in str(caught.value)
    assert "--retry-failed" in str(caught.value)


def test_an_unstable_row_is_used_only_when_allowed(save, make):
    lut = save([make.row(make.ops[0], 5.0, state="unstable", reason="floors differ by 4 %")])
    with pytest.raises(
        MissingRow, match=r"unstable \(floors differ by 4 %\) in .*; pass allow_unstable=True"
    ):
        lut.find(make.ops[0])
    assert lut.find(make.ops[0], allow_unstable=True)["state"] == "unstable"
    assert lut.latency_ms(make.ops[0], allow_unstable=True) == 5.0
    with pytest.raises(MissingRow):
        lut.latency_ms(make.ops[0])


@pytest.mark.parametrize("state", ["converged", "budget", "imported"])
def test_usable_states_are_used(save, make, state):
    assert save([make.row(make.ops[0], 5.0, state=state)]).latency_ms(make.ops[0]) == 5.0


def test_all_missing_ops_are_reported_in_one_error(save, make):
    lut = save([make.row(make.ops[0]), make.row(make.ops[1], None)])
    absent = [conv((1, 3, 9, 9), width) for width in range(1, 9)]
    with pytest.raises(MissingRow) as caught:
        lut.latencies_ms([make.ops[0], make.ops[1], *absent, *absent])
    message = str(caught.value)
    assert message.startswith("9 ops have no usable row")
    assert "state failed (worker died)" in message
    assert [op.label in message for op in absent] == [True] * 4 + [False] * 4
    assert "and 4 more" in message
    assert "hwprof build-lut" in message
    assert "\n" not in message


@pytest.fixture
def two_environments(save, make):
    rows = [make.row(op, 1.0, environment_id=make.here) for op in make.ops]
    return save([*rows, make.row(make.ops[0], 9.0, environment_id=make.there, threads=2)])


def test_rows_of_two_environments_are_never_mixed(two_environments, make):
    for look_up in (two_environments.find, two_environments.latency_ms):
        with pytest.raises(MissingRow) as caught:
            look_up(make.ops[0])
        message = str(caught.value)
        assert "pass threads=, or environment= one of " in message
        assert f"{make.here} (runtime_version 1.31), {make.there} (runtime_version 1.32)" in message


def test_an_op_of_one_environment_is_not_mixed_with_those_of_another(two_environments, make):
    """ops[1] has one row only, yet its sum with an op of the other environment would mix."""
    with pytest.raises(MissingRow, match="environments"):
        two_environments.latency_ms(make.ops[1])


def test_an_environment_or_a_thread_count_resolves_the_ambiguity(two_environments, make):
    assert two_environments.latency_ms(make.ops[0], environment=make.there) == 9.0
    assert two_environments.latency_ms(make.ops[0], environment=make.here) == 1.0
    assert two_environments.latency_ms(make.ops[0], threads=2) == 9.0
    assert two_environments.filter(environment_id=make.there).latency_ms(make.ops[0]) == 9.0


def test_an_environment_without_the_op_is_a_missing_row(two_environments, make):
    with pytest.raises(MissingRow, match=make.ops[1].label):
        two_environments.latency_ms(make.ops[1], environment=make.there)


def test_wrong_arguments_list_what_is_allowed(lut, make):
    with pytest.raises(LutError, match="cache 'cold' is unknown; choose of warm, in_chain, evicted"):
        lut.find(make.ops[0], cache="cold")
    with pytest.raises(LutError, match="granularity 'block' is unknown; choose of op, pair"):
        lut.find(make.ops[0], granularity="block")
    with pytest.raises(LutError, match=f"environment 'x' is not in .*{make.here}"):
        lut.find(make.ops[0], environment="x")
    with pytest.raises(LutError, match="'mbconv' is no op id"):
        lut.find("mbconv")


def test_cache_states_and_granularities_are_never_mixed(save, make):
    lut = save([make.row(make.ops[0], 1.0), make.row(make.ops[0], 3.0, cache="evicted")])
    assert lut.latency_ms(make.ops[0]) == 1.0
    assert lut.latency_ms(make.ops[0], cache="evicted") == 3.0
    with pytest.raises(
        MissingRow,
        match="no row with granularity op, cache in_chain; it has op, evicted, 1 threads: 1 rows; op, w",
    ):
        lut.latency_ms(make.ops[0], cache="in_chain")
    with pytest.raises(MissingRow, match="2 threads"):
        lut.latency_ms(make.ops[0], threads=2)


def test_an_empty_table_answers_with_an_error(save, make):
    lut = save([])
    assert len(lut) == 0
    with pytest.raises(MissingRow, match="no rows at all"):
        lut.latency_ms(make.ops[0])


def test_filters_narrow_by_value_list_and_null(lut, make):
    assert len(lut.filter(kind="mbconv")) == 2
    assert len(lut.filter(kind=["mbconv", "fc"])) == 3
    assert len(lut.filter(kind=["mbconv", "fc"], se_channels=4)) == 1
    assert len(lut.filter(height=None)) == 1
    assert len(lut.filter(state="failed")) == 0
    assert lut.filter(kind="fc").latency_ms(make.ops[5]) == 6.0
    with pytest.raises(MissingRow):
        lut.filter(kind="fc").latency_ms(make.ops[0])
    assert len(lut) == 6


def test_filters_refuse_unknown_columns_and_values_of_another_type(lut):
    with pytest.raises(LutError, match="unknown column 'kernel'"):
        lut.filter(kernel=3)
    with pytest.raises(LutError, match="column stride takes int32"):
        lut.filter(stride="two")


def test_sorting_puts_nulls_last(save, make):
    lut = save([make.row(op, ms) for op, ms in zip(make.ops, (3.0, None, 1.0, 2.0), strict=False)])
    assert lut.sort("latency_ms").table.column("latency_ms").to_pylist() == [1, 2, 3, None]
    falling = lut.sort("latency_ms", descending=True)
    assert falling.table.column("latency_ms").to_pylist() == [3, 2, 1, None]
    assert falling.latencies_ms([make.ops[2], make.ops[0]]).tolist() == [1.0, 3.0]
    assert lut.sort("kind").table.column("kind").to_pylist() == ["conv", "mbconv", "mbconv", "mixconv"]


def test_pandas_shows_numbers_as_numbers_and_nulls_as_missing(save, make):
    frame = save([make.row(make.ops[0]), make.row(make.ops[1], None)]).to_pandas()
    failed = frame.set_index("label").loc[make.ops[1].label]
    assert math.isnan(failed["latency_ms"])
    assert failed["reason"] == "worker died"
    assert frame.groupby("kind")["latency_ms"].count().to_dict() == {"conv": 1, "mbconv": 0}
