"""Op ids as numbers and binary search over them, against a plain dictionary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut.lookup import as_id_array, build_index, encode

op_ids = st.text("0123456789abcdef", min_size=20, max_size=20)


@given(present=st.lists(op_ids, unique=True, max_size=30), absent=st.lists(op_ids, max_size=10))
def test_the_index_agrees_with_a_dictionary_whatever_the_order_of_the_rows(present, absent):
    index = build_index(encode(pa.array(present, pa.string())), np.arange(len(present)))
    rows = {op_id: row for row, op_id in enumerate(present)}
    asked = [*present, *absent]
    found = index.find(encode(pa.array(asked, pa.string())))
    assert found.tolist() == [rows.get(op_id, -1) for op_id in asked]


@given(ends=st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), unique=True, min_size=2))
def test_ids_that_share_their_first_sixteen_digits_are_told_apart(ends):
    ids = ["f" * 16 + end for end in ends]
    index = build_index(encode(pa.array(ids[1:])), np.arange(len(ids) - 1))
    assert index.find(encode(pa.array(ids))).tolist() == [-1, *range(len(ids) - 1)]


@given(st.lists(op_ids, min_size=2))
def test_codes_order_like_the_text(ids):
    codes = encode(pa.array(ids))
    numbers = [(int(high), int(low)) for high, low in zip(codes.high, codes.low, strict=True)]
    assert sorted(range(len(ids)), key=lambda i: (ids[i], i)) == sorted(
        range(len(ids)), key=lambda i: (numbers[i], i)
    )


@pytest.mark.parametrize("bad", ["", "abc", "g" * 20, "é" * 10, "a" * 21, " " * 20, None])
def test_what_is_no_op_id_is_named(bad):
    with pytest.raises(LutError, match="is no op id"):
        encode(pa.array(["a" * 20, bad]))


def test_ids_of_a_slice_are_those_of_the_slice():
    ids = pa.array(["a" * 20, "b" * 20, "c" * 20])
    assert encode(ids[1:2]).high.tolist() == [0xBBBBBBBBBBBBBBBB]


def test_ids_come_from_ops_text_and_arrays_alike(make):
    texts = [op.op_id for op in make.ops]
    for given_as in (
        make.ops, texts, tuple(texts), np.array(texts), np.array(texts, "S20"), np.array(texts, object),
        pa.array(texts), pa.chunked_array([texts[:2], texts[2:]]), [make.ops[0], *texts[1:]],
    ):  # fmt: skip
        assert as_id_array(given_as).to_pylist() == texts


@pytest.mark.parametrize("element", [1, None, 2.5, ["a"]])
def test_an_element_that_is_neither_op_nor_id_is_refused(make, element):
    with pytest.raises(LutError):
        encode(as_id_array([make.ops[0], element]))
