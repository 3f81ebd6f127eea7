"""Thrift's compact protocol: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.lut.guard.thrift import (
    BINARY,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Field,
    Items,
    read_struct,
    write_struct,
)

BITS = {I16: 16, I32: 32, I64: 64}


def integers(kind):
    return st.integers(-(1 << BITS[kind] - 1), (1 << BITS[kind] - 1) - 1)


plain = st.one_of(
    *(st.builds(Field, st.just(kind), integers(kind)) for kind in BITS),
    st.builds(Field, st.just(BINARY), st.binary(max_size=300)),
    st.builds(Field, st.just(DOUBLE), st.floats(allow_nan=False)),
    st.just(Field(TRUE, True)),
    st.just(Field(FALSE, False)),
)


def containers(inner):
    structs = st.dictionaries(st.integers(1, 40), inner, max_size=4).map(
        lambda d: dict(sorted(d.items()))
    )
    lists = st.one_of(
        st.builds(lambda v: Items(I32, tuple(v)), st.lists(integers(I32), max_size=20)),
        st.builds(lambda v: Items(BINARY, tuple(v)), st.lists(st.binary(max_size=3), max_size=20)),
        st.builds(lambda v: Items(STRUCT, tuple(v)), st.lists(structs, max_size=3)),
    )
    return st.builds(Field, st.just(STRUCT), structs) | st.builds(Field, st.just(LIST), lists)


fields = st.recursive(plain, containers, max_leaves=10)
structs = st.dictionaries(st.integers(1, (1 << 15) - 1), fields, max_size=5).map(
    lambda d: dict(sorted(d.items()))
)


@settings(deadline=None)
@given(struct=structs, before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_a_struct_that_is_written_is_read(struct, before, after):
    data = write_struct(struct)
    assert read_struct(before + data + after, len(before)) == (struct, len(before) + len(data))


def chosen(struct, wanted):
    """What is wanted of a struct, nested ones too."""
    if wanted is None:
        return struct
    return {
        number: Field(STRUCT, chosen(field.value, wanted[number])) if field.type == STRUCT else field
        for number, field in struct.items()
        if number in wanted
    }


@settings(deadline=None)
@given(struct=structs, data=st.data())
def test_fields_that_nobody_wants_are_left_out(struct, data):
    parts = st.none() | st.just({}) | st.just(dict.fromkeys(range(1, 20)))
    wanted = {
        number: data.draw(parts) if field.type == STRUCT else None
        for number, field in struct.items()
        if data.draw(st.booleans())
    }
    raw = write_struct(struct)
    assert read_struct(raw, wanted=wanted) == (chosen(struct, wanted), len(raw))


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=60))
def test_fields_that_nobody_wants_are_checked_alike(data):
    def end_or_error(**options):
        try:
            return read_struct(data, **options)[1]
        except ValueError as error:
            return str(error)

    assert end_or_error(wanted={}) == end_or_error()


@settings(deadline=None)
@given(struct=structs, share=st.floats(0, 0.999))
def test_a_struct_that_is_cut_off_is_an_error(struct, share):
    data = write_struct(struct)
    with pytest.raises(ValueError):
        read_struct(data[: int(share * len(data))])


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_struct_or_a_value_error(data):
    try:
        struct, end = read_struct(data)
    except ValueError:
        return
    assert 0 < end <= len(data)
    assert read_struct(write_struct(struct))[0] == struct or "nan" in str(struct)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x15\x02\x05\x02\x02\x00", "twice"),  # field 1 by its number after field 1
        (b"\x05\x00\x02\x00", "out of range"),
        (b"\x05\x01\x02\x00", "out of range"),  # field -1
        (b"\x15" + b"\xff" * 4 + b"\x1f\x00", "more than 32 bits"),  # C++ would cut it to 32
        (b"\x16" + b"\xff" * 9 + b"\x7f\x00", "more than 64 bits"),
        (b"\x16" + b"\x80" * 10 + b"\x00", "more than 64 bits"),
        (b"\x1b\x00\x00", "unknown type 11"),
        (b"\x19\xf5\xff\xff\xff\xff\x0f", "cut off"),  # a list of 2^32 integers
        (b"\x18\xff\xff\xff\xff\x0f", "cut off"),
        (b"\x1c" * 100 + b"\x00" * 100, "nested too deep"),
        (b"\x19\x19" * 100 + b"\x00" * 100, "nested too deep"),
    ],
)
def test_what_other_readers_understand_otherwise_is_refused(data, why):
    with pytest.raises(ValueError, match=why):
        read_struct(data)
