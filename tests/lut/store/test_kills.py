"""Writers that were killed inside an append: visits are those that were sent with the rows."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from hwprof.lut import load_lut
from hwprof.lut.store import Store, store_to_cache

pytestmark = pytest.mark.usefixtures("home")


class Killed(BaseException):
    """Stands for `kill -9`: nothing after it is done."""


@pytest.fixture
def append(folder, make):
    """Append rows of so many ms and their visits as a new process would, or be killed in it."""

    def appended(latency_ms, ops=make.ops[:1], visits=True, killed_in=None):
        store = Store(folder)
        if killed_in is not None:
            getattr(store, killed_in).append = killing
        rows = [make.row(op, latency_ms) for op in ops]
        sent = [visit for row in rows for visit in make.visits(row)] if visits else None
        last = store.last_sequence("farm")
        number = 0 if last is None else last + 1
        return store.append(rows, make.metadata, visits=sent, writer="farm", sequence=number)

    def killing(*_):
        raise Killed

    return appended


def visits(folder):
    """Floors of the visits that a pull gives."""
    return Counter(load_lut(store_to_cache(folder)).visits["p10_ms"].to_pylist())


def stored_visits(folder):
    """Floors of the visits that are in the store, of a row or of none."""
    return Counter(Store(folder).visits.query("SELECT p10_ms FROM delta")["p10_ms"].to_pylist())


@pytest.mark.parametrize("part", ["visits", "sources", "rows"])
def test_visits_of_a_killed_batch_once_stood_under_the_rows_of_the_next_one(folder, make, append, part):
    """Its own visits were dropped, and the append was acknowledged."""
    with pytest.raises(Killed):
        append(1.0, killed_in=part)
    assert append(7.0, make.ops[:2]).new
    assert visits(folder) == {7.0: 6}


def test_visits_of_a_killed_batch_once_stood_under_rows_that_came_without_visits(folder, append):
    with pytest.raises(Killed):
        append(1.0, killed_in="rows")
    assert append(7.0, visits=False).batch_id == "farm/0"
    assert visits(folder) == {}


def test_a_killed_batch_that_is_sent_again_has_its_visits_once(folder, append):
    for latency_ms in (1.0, 7.0, 1.0, 7.0):
        with pytest.raises(Killed):
            append(latency_ms, killed_in="rows")
    done = append(1.0)
    assert (done.new, visits(folder)) == (True, {1.0: 3})
    assert stored_visits(folder) == {1.0: 3, 7.0: 3}
    assert append(2.0).batch_id.startswith("farm/1/")


def test_a_batch_whose_rows_are_there_adds_no_visits(folder, make, append):
    first = append(1.0)
    rows = [make.row(make.ops[0], 7.0)]
    again = Store(folder).append(
        rows, make.metadata, visits=make.visits(rows[0]), writer="farm", sequence=0
    )
    assert (first.new, again.new) == (True, False)
    assert stored_visits(folder) == {1.0: 3}


def test_a_writers_name_may_have_a_quote(folder, make):
    rows = [make.row(make.ops[0])]
    for _ in range(2):
        store = Store(folder)
        store.rows.has = lambda *_: False
        store.append(rows, make.metadata, visits=make.visits(rows[0]), writer="Ada's", sequence=0)
    assert stored_visits(folder) == {1.0: 3}


def test_a_store_whose_batch_ids_have_no_hash_is_read_and_grows(folder, make, append):
    append(1.0)
    store = Store(folder)
    for part in (store.rows, store.visits):
        stored = part.query("SELECT * FROM delta")
        place = stored.column_names.index("batch_id")
        plain = stored.set_column(place, "batch_id", pa.array(["old/0"] * stored.num_rows))
        part.append(
            plain.set_column(0, "op_id", pa.array([make.ops[1].op_id] * plain.num_rows)), "old", 0
        )
    assert visits(folder) == {1.0: 6}
    append(2.0, make.ops[2:3])
    assert visits(folder) == {1.0: 6, 2.0: 3}
