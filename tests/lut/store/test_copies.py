"""Copies that a pull keeps: of what was asked for, whole, and telling what is not in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut, visits_path_of
from hwprof.lut.places import local_table
from hwprof.lut.places.cache import file_sha256
from hwprof.lut.store import Store, push_to_store, store_to_cache

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def far(bucket, make):
    """A store on S3 with a precise row of 1 ms and a newer, less precise one of 2 ms."""
    store, op = Store(f"{bucket}/store"), make.ops[0]
    precise = make.row(op, 1.0, latency_low_ms=0.999, latency_high_ms=1.001)
    newer = make.row(op, 2.0, started_at=precise["started_at"] + timedelta(hours=1))
    for number, row in enumerate((precise, newer)):
        store.append([row], make.metadata, writer="w", sequence=number)
    return f"delta+{bucket}/store"


def latency(path):
    return load_lut(path).table["latency_ms"].to_pylist()


@pytest.mark.parametrize("asked", [{"version": 1}, {"as_of": datetime(2026, 11, 22, tzinfo=UTC)}])
def test_offline_a_version_was_once_the_latest_copy(far, asked):
    store_to_cache(far)
    with pytest.raises(LutError, match=r"^--version and --as-of must ask .* without --offline$"):
        store_to_cache(far, offline=True, **asked)


def test_offline_another_rule_was_once_the_latest_copy(far):
    store_to_cache(far)
    with pytest.raises(LutError, match="is not in the cache"):
        store_to_cache(far, offline=True, on_conflict="most-precise")
    store_to_cache(far, on_conflict="most-precise")
    assert latency(store_to_cache(far, offline=True, on_conflict="most-precise")) == [1.0]
    assert latency(store_to_cache(far, offline=True)) == [2.0]


def test_a_pull_by_another_rule_once_changed_what_look_ups_found(far):
    store_to_cache(far)
    store_to_cache(far, on_conflict="most-precise")
    assert latency(local_table(far)) == [2.0]


def test_only_the_first_pull_once_told_how_many_rows_were_left_out(far, caplog):
    for offline in (False, False, True):
        caplog.clear()
        store_to_cache(far, offline=offline)
        assert caplog.messages == ["1 rows were left out by the rule newest"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.unlink(),
        lambda path: flip(visits_path_of(path)),
        lambda path: visits_path_of(path).unlink(),
    ],
    ids=["table changed", "table lost", "visits changed", "visits lost"],
)
@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_damaged_copy_was_once_given_as_it_was(lut, tmp_path, request, damage, kind):
    root = str(tmp_path) if kind == "file" else request.getfixturevalue("bucket")
    place = f"delta+{root}/store"
    push_to_store(str(lut.path), place)
    damage(store_to_cache(place))
    if kind == "s3":
        with pytest.raises(LutError, match="is not in the cache"):
            store_to_cache(place, offline=True)
    made = store_to_cache(place)
    assert file_sha256(made) == made.parent.name
    back = load_lut(made)
    assert back.table.equals(lut.table)
    assert back.visits.equals(lut.visits)


def test_a_damaged_note_of_a_copy_is_made_anew(folder, lut, home):
    push_to_store(str(lut.path), folder)
    for text in ("", "[]", "{}", '{"sha256": 1, "visits": 1, "repeated": "x", "replaced": 0}'):
        store_to_cache(folder)
        (note,) = (home / "cache" / "stores").iterdir()
        note.write_text(text)
        assert load_lut(store_to_cache(folder)).table.equals(lut.table)
