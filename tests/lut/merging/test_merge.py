"""Merging: every row once, conflicts by the stated rule and told, provenance kept."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut, partial, verify_lut, visits_path_of, write_lut
from hwprof.lut.merging import merge
from hwprof.lut.partial import put_in_place
from hwprof.lut.reading import SIGNATURE
from hwprof.lut.schema import ORDER
from hwprof.lut.trust import footer
from hwprof.lut.trust.facts import set_facts
from hwprof.lut.trust.footer import replace_metadata


def origin(path):
    return load_lut(path).metadata["content_hash"][:16]


def rows_of(path):
    return load_lut(path).table.to_pylist()


def labels(path):
    return set(load_lut(path).table.column("label").to_pylist())


def test_rows_of_all_tables_are_there_in_order_and_say_where_they_come_from(make, shard, tmp_path):
    a = shard("a", [make.row(op, 1.0) for op in make.ops[:4]])
    b = shard("b", [make.row(op, 2.0) for op in make.ops[3:]] and [make.row(make.ops[4], 2.0)])
    c = shard("c", [make.row(op, 3.0, environment_id=make.there) for op in make.ops])
    merged = merge([a, b, c], tmp_path / "out.parquet")
    found = rows_of(merged.out)
    assert merged.rows == len(found) == 4 + 1 + 6
    assert found == sorted(found, key=lambda row: tuple(row[name] for name in ORDER))
    assert {(row["latency_ms"], row["origin"]) for row in found} == {
        (1.0, origin(a)), (2.0, origin(b)), (3.0, origin(c)),
    }  # fmt: skip
    told = load_lut(merged.out).metadata["merged"]
    assert told.keys() == {origin(a), origin(b), origin(c)}
    assert told[origin(b)]["content_hash"] == load_lut(b).metadata["content_hash"]
    assert merged.by_origin == {origin(a): 4, origin(b): 1, origin(c): 6}
    verify_lut(merged.out)


def test_a_row_keeps_its_first_origin_when_it_is_merged_again(make, shard, tmp_path):
    a, b = (shard(name, [make.row(op)]) for name, op in zip("ab", make.ops, strict=False))
    merge([a, b], tmp_path / "ab.parquet")
    c = shard("c", [make.row(make.ops[2])])
    merge([tmp_path / "ab.parquet", c], tmp_path / "abc.parquet")
    assert {row["origin"] for row in rows_of(tmp_path / "abc.parquet")} == {
        origin(a), origin(b), origin(c),
    }  # fmt: skip
    assert origin(tmp_path / "ab.parquet") not in load_lut(tmp_path / "abc.parquet").metadata["merged"]


def test_equal_rows_are_one_row_and_no_conflict(make, shard, tmp_path):
    rows = [make.row(op) for op in make.ops]
    a, b = shard("a", rows[:4]), shard("b", rows[2:])
    merged = merge([a, b], tmp_path / "out.parquet")
    assert (merged.rows, merged.same, merged.conflicts) == (6, 2, 0)
    shared = {row["op_id"]: row["origin"] for row in rows_of(merged.out)}
    assert {shared[row["op_id"]] for row in rows[2:4]} == {min(origin(a), origin(b))}


def test_refuse_names_the_conflicts_and_writes_nothing(make, shard, tmp_path):
    a = shard("a", [make.row(op, 1.0) for op in make.ops])
    b = shard("b", [make.row(op, 1.5) for op in make.ops[:2]])
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(LutError, match="2 rows differ between the tables") as caught:
        merge([a, b], tmp_path / "out.parquet")
    message = str(caught.value)
    assert make.ops[0].label in message
    assert origin(a) in message
    assert origin(b) in message
    assert "\n" not in message
    assert sorted(os.listdir(tmp_path)) == before


def test_the_newest_row_wins_and_the_loser_is_told(make, shard, tmp_path):
    row = make.row(make.ops[0], 1.0)
    later = make.row(make.ops[0], 1.5, started_at=row["started_at"] + timedelta(seconds=1))
    a, b = shard("a", [later, make.row(make.ops[1])]), shard("b", [row])
    merged = merge([b, a], tmp_path / "out.parquet", "newest")
    assert load_lut(merged.out).latency_ms(make.ops[0]) == 1.5
    assert merged.conflicts == 1
    (told,) = merged.told
    assert (told.label, told.kept, told.dropped) == (make.ops[0].label, origin(a), (origin(b),))
    assert load_lut(merged.out).metadata["merged"].keys() == {origin(a)}


def test_the_most_precise_row_wins(make, shard, tmp_path):
    wide = make.row(make.ops[0], 1.0, latency_high_ms=1.3)
    narrow = make.row(make.ops[0], 9.0)  # -1 % to +2 %, though wider in milliseconds
    imported = make.row(make.ops[0], 5.0, state="imported", latency_low_ms=None, latency_high_ms=None)
    paths = [shard(str(i), [row]) for i, row in enumerate((wide, narrow, imported))]
    merged = merge(paths, tmp_path / "out.parquet", "most-precise")
    assert load_lut(merged.out).latency_ms(make.ops[0]) == 9.0
    assert merged.told[0].dropped == tuple(sorted((origin(paths[0]), origin(paths[2]))))


@pytest.mark.parametrize("rule", ["newest", "most-precise"])
def test_a_failure_or_an_unstable_row_never_replaces_a_number(make, shard, tmp_path, rule):
    row = make.row(make.ops[0], 1.0)
    later = row["started_at"] + timedelta(days=1)
    failed = make.row(make.ops[0], None, started_at=later)
    unstable = make.row(make.ops[0], 2.0, state="unstable", started_at=later, latency_high_ms=2.0)
    paths = [shard(str(i), [each]) for i, each in enumerate((failed, unstable, row))]
    merged = merge(paths, tmp_path / "all.parquet", rule)
    assert [each["state"] for each in rows_of(merged.out)] == ["converged"]
    merged = merge(paths[:2], tmp_path / "two.parquet", rule)
    assert [each["state"] for each in rows_of(merged.out)] == ["unstable"]


def test_an_unknown_rule_names_the_known_ones(shard, make, tmp_path):
    with pytest.raises(LutError, match="refuse, newest, most-precise"):
        merge([shard("a", [make.row(make.ops[0])])], tmp_path / "out.parquet", "first")


def test_the_result_may_replace_one_of_the_tables(make, shard):
    a = shard("a", [make.row(make.ops[0])], visits=True)
    b = shard("b", [make.row(make.ops[1])], visits=True)
    merge([a, b], a)
    assert len(load_lut(a)) == 2
    verify_lut(a)


def test_another_table_at_out_was_once_replaced_without_a_word(make, shard):
    a, b = shard("a", [make.row(make.ops[0])]), shard("b", [make.row(make.ops[1])])
    other = shard("other", [make.row(make.ops[2])], visits=True)
    before = other.read_bytes(), visits_path_of(other).read_bytes()
    with pytest.raises(LutError, match=r"other\.parquet exists and is none of the tables"):
        merge([a, b], other)
    assert (other.read_bytes(), visits_path_of(other).read_bytes()) == before
    merge([a, b], other, overwrite=True)
    assert len(load_lut(other)) == 2
    assert load_lut(other).visits.num_rows == 0


def test_visits_that_stand_without_their_table_were_once_replaced(make, shard, tmp_path):
    a = shard("a", [make.row(make.ops[0])], visits=True)
    alone = tmp_path / "out.visits.parquet"
    visits_path_of(shard("b", [make.row(make.ops[1])], visits=True)).rename(alone)
    before = alone.read_bytes()
    with pytest.raises(LutError, match=r"out\.visits\.parquet stands there without its table"):
        merge([a], tmp_path / "out.parquet")
    assert alone.read_bytes() == before


def test_of_two_merges_into_one_table_at_once_the_first_ones_rows_were_lost(make, shard):
    whole, b, c = (shard(name, [make.row(op)]) for name, op in zip("abc", make.ops, strict=False))

    def another(done, total):
        merge([whole, c], whole)

    with pytest.raises(LutError, match=r"written by another process .* give the same command again"):
        merge([whole, b], whole, progress=another)
    assert len(load_lut(whole)) == 2
    assert len(load_lut(merge([whole, b], whole).out)) == 3


def test_two_merges_past_their_checks_at_once_once_lost_the_rows_of_one(make, shard, monkeypatch):
    whole, b, c = (shard(name, [make.row(op)]) for name, op in zip("abc", make.ops, strict=False))
    both = threading.Barrier(2, timeout=20)

    def together(files, expected):
        both.wait()
        return put_in_place(files, expected)

    def grow(more):
        try:
            merge([whole, more], whole)
        except LutError as error:
            return str(error)
        return None

    monkeypatch.setattr(sys.modules["hwprof.lut.merging.merge"], "put_in_place", together)
    with ThreadPoolExecutor(2) as pool:
        told = [*pool.map(grow, (b, c))]
    (refused,) = [line for line in told if line is not None]
    assert "written by another process" in refused
    assert len(load_lut(whole)) == 2


def test_title_and_rows_that_came_at_once_once_undid_each_other(make, shard, monkeypatch):
    whole, b = (shard(name, [make.row(op)]) for name, op in zip("ab", make.ops, strict=False))

    def late(source, target, changes):
        merge([whole, b], whole)
        return copy(source, target, changes)

    copy = footer._copy
    monkeypatch.setattr(footer, "_copy", late)
    with pytest.raises(LutError, match="written by another process"):
        set_facts(whole, {"title": "Ours"})
    assert len(load_lut(whole)) == 2
    assert [file.name for file in whole.parent.glob(".*")] == []


def test_visits_that_the_grown_table_had_let_go_were_once_replaced(make, shard):
    whole, b, c = (
        shard(name, [make.row(op)], visits=True) for name, op in zip("abc", make.ops, strict=False)
    )
    visits = visits_path_of(whole)
    before = visits.read_bytes()
    merge([whole, b], whole, visits=False)
    with pytest.raises(LutError, match=r"a\.visits\.parquet holds visits that .* does not claim"):
        merge([whole, c], whole)
    assert visits.read_bytes() == before
    merge([whole, c], whole, overwrite=True)
    assert visits.read_bytes() != before


def test_a_table_that_grows_keeps_its_title_and_tells_that_its_signature_went(make, shard):
    whole, b = (shard(name, [make.row(op)]) for name, op in zip("ab", make.ops, strict=False))
    set_facts(whole, {"title": "Ours", "authors": ["Eve"]})
    replace_metadata(whole, {SIGNATURE: b"{}"})
    assert merge([whole, b], whole).signature_removed
    facts = load_lut(whole).metadata
    assert (facts["title"], facts["authors"]) == ("Ours", ["Eve"])
    assert not merge([whole, b], whole).signature_removed


def test_blocks_and_row_groups_do_not_show(make, shard, tmp_path, monkeypatch):
    """Interleaved rows of two tables, conflicts at the borders of blocks, runs that are cut out."""
    both = [make.row(op, 1.0, environment_id=e) for op in make.ops for e in (make.here, make.there)]
    a, b = shard("a", both[::2], visits=True), shard("b", both[1::2], visits=True)
    later = both[0]["started_at"] + timedelta(hours=1)
    c = shard("c", [row | {"latency_ms": 1.01, "started_at": later} for row in both[3:8]], visits=True)
    whole = merge([a, b, c], tmp_path / "whole.parquet", "newest")
    for block, group, run in ((1, 1, 1), (2, 3, 2), (3, 2, 1), (5, 4, 256)):
        monkeypatch.setattr("hwprof.lut.merging.sources.BLOCK_ROWS", block)
        monkeypatch.setattr(partial, "ROWS_PER_GROUP", group)
        monkeypatch.setattr("hwprof.lut.merging.sorted_rows.LONG_RUN", run)
        for path in (a, b, c):
            part = load_lut(path)
            write_lut(path, part.table, metadata=part.metadata, visits=part.visits)
        parts = merge([a, b, c], tmp_path / "parts.parquet", "newest", overwrite=True)
        assert parts.conflicts == whole.conflicts == 5
        assert parts.visits == whole.visits == 3 * len(both)
        for name in ("content_hash", "visits_hash"):
            assert load_lut(parts.out).metadata[name] == load_lut(whole.out).metadata[name]
        assert pq.read_metadata(parts.out).num_row_groups == -(-len(both) // group)


def test_a_table_whose_file_does_not_say_that_it_is_sorted_is_sorted(make, shard, tmp_path, monkeypatch):
    a = shard("a", [make.row(op, 1.0) for op in make.ops], visits=True)
    b = shard("b", [make.row(op, 2.0, environment_id=make.there) for op in make.ops], visits=True)
    merge([a, b], tmp_path / "out.parquet")
    monkeypatch.setattr("hwprof.lut.merging.sources.BLOCK_ROWS", 4)
    for path in (a, visits_path_of(a)):
        rewrite(path, lambda table: table.take(pa.array(range(table.num_rows - 1, -1, -1))))
    merge([a, b], tmp_path / "again.parquet")
    for name in ("content_hash", "visits_hash"):
        assert (
            load_lut(tmp_path / "again.parquet").metadata[name]
            == load_lut(tmp_path / "out.parquet").metadata[name]
        )


def rewrite(path, change, sorted_by=None):
    """Write a file again with other rows, as someone else's tool would."""
    table = change(pq.ParquetFile(path).read())
    stored = pq.read_metadata(path).metadata
    order = pq.SortingColumn.from_ordering(table.schema, sorted_by) if sorted_by else None
    with pq.ParquetWriter(path, table.schema, store_schema=False, sorting_columns=order) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({k: v for k, v in stored.items() if k.startswith(b"hwprof.")})


def set_column(name, values):
    def change(table):
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(values, table.schema.field(name).type))

    return change


ASCENDING = [(name, "ascending") for name in ORDER]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("latency_ms", [float("nan")] * 6, "latency_ms is nan"),
        ("latency_ms", [-1.0] * 6, "latency_ms is -1.0"),
        ("op_id", ["x" * 20] * 6, "20 lower-case hex digits"),
        ("op_id", ["A" * 20] * 6, "20 lower-case hex digits"),
        ("op_id", [f"{9 - i:020x}" for i in range(6)], "says that its rows are sorted"),
        ("kind", [None] * 6, "kind"),
        ("environment_id", ["unheard of"] * 6, "does not describe unheard of"),
        ("state", ["fine"] * 6, "state is 'fine'"),
    ],
)
def test_a_table_that_lies_is_refused_and_nothing_is_left(make, shard, tmp_path, name, values, message):
    good = shard("good", [make.row(op, environment_id=make.there) for op in make.ops])
    bad = shard("bad", [make.row(op, 1.0 + i) for i, op in enumerate(make.ops)])
    if name == "op_id":
        rewrite(bad, set_column("kind", ["conv"] * 6))
    rewrite(bad, set_column(name, values), ASCENDING)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(LutError) as caught:
        merge([good, bad], tmp_path / "out.parquet", "newest")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_one_op_under_two_kinds_is_refused(make, shard, tmp_path):
    """Rows are sorted by kind first, so that these two are not neighbours."""
    a = shard("a", [make.row(make.ops[0])])
    b = shard("b", [make.row(make.ops[0], kind="unheard of")])
    with pytest.raises(LutError, match=f"op {make.ops[0].op_id} has rows of two kinds"):
        merge([a, b], tmp_path / "out.parquet", "newest")
    assert not (tmp_path / "out.parquet").exists()


def test_a_damaged_table_is_named(make, shard, tmp_path):
    a, b = (shard(name, [make.row(op)]) for name, op in zip("ab", make.ops, strict=False))
    content = bytearray(b.read_bytes())
    content[40:400] = bytes(360)
    b.write_bytes(content)
    with pytest.raises(LutError, match=r"b\.parquet is cut off or damaged"):
        merge([a, b], tmp_path / "out.parquet")


def test_no_table_is_no_merge(tmp_path):
    with pytest.raises(LutError, match="name one or more"):
        merge([], tmp_path / "out.parquet")


def test_progress_ends_with_all_rows(make, shard, tmp_path):
    a = shard("a", [make.row(op) for op in make.ops])
    told = []
    merge([a, a], tmp_path / "out.parquet", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 12)
