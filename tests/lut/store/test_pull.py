"""What a pull gives: this store's rows, with the provenance and visits that a merge would give them."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from hwprof.errors import LutError
from hwprof.lut import load_lut, write_lut
from hwprof.lut.merging import merge
from hwprof.lut.store import Store, push_to_store, store_to_cache

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def table(make, tmp_path):
    """Write a table of all ops, so many ms each, measured so many hours later."""

    def written(name, latency_ms, hours=0, visits=False, **metadata):
        began = make.row(make.ops[0])["started_at"] + timedelta(hours=hours)
        rows = [make.row(op, latency_ms, started_at=began) for op in make.ops]
        stays = [visit for row in rows for visit in make.visits(row)] if visits else None
        path = tmp_path / f"{name}.parquet"
        write_lut(path, rows, metadata={**make.metadata, **metadata}, visits=stays)
        return path

    return written


def latencies(path: Path) -> set[float]:
    return set(load_lut(path).table["latency_ms"].to_pylist())


def test_a_store_in_another_folder_once_gave_the_first_ones_rows(table, tmp_path, monkeypatch, run):
    for number, name in enumerate(("one", "two"), 1):
        pushed = table(name, float(number))
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run("push", pushed, "delta+store")
        assert run("pull", "delta+store", "--out", "p.parquet").exit_code == 0
        assert latencies(tmp_path / name / "p.parquet") == {float(number)}


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_store_made_anew_once_gave_the_rows_of_the_deleted_one(table, tmp_path, request, kind):
    root = str(tmp_path) if kind == "file" else request.getfixturevalue("bucket")
    place = f"delta+{root}/store"
    for number in (1, 2):
        push_to_store(str(table("t", float(number))), place)
        assert latencies(store_to_cache(place)) == {float(number)}
        if kind == "file":
            shutil.rmtree(tmp_path / "store")
        else:
            import boto3

            boto3.resource("s3").Bucket(root.removeprefix("s3://")).objects.all().delete()


def test_copies_of_a_store_that_have_grown_apart_are_two(folder, table, tmp_path):
    push_to_store(str(table("first", 1.0)), folder)
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    for place, latency_ms in ((folder, 2.0), (f"delta+{tmp_path}/copy", 3.0)):
        push_to_store(str(table("more", latency_ms, hours=1)), place)
        assert latencies(store_to_cache(place)) == {latency_ms}


def test_an_old_version_is_the_same_file_though_the_store_has_grown(folder, table):
    push_to_store(str(table("first", 1.0, visits=True)), folder)
    before = store_to_cache(folder)
    push_to_store(str(table("second", 2.0, hours=1, visits=True)), folder)
    assert store_to_cache(folder, version=1) == before


def test_rows_of_several_tables_once_had_origins_that_merged_did_not_name(folder, table, tmp_path):
    a = table("a", 1.0, title="A", authors=["Ada"], licence="MIT", visits=True)
    b = table("b", 2.0, hours=1, licence="CC0-1.0", title="B")
    c = table("c", 3.0, hours=2, title="C", visits=True)
    rows = load_lut(c).table.slice(0, 2).to_pylist()
    write_lut(c, rows, metadata=load_lut(c).metadata)
    ab, all_three = tmp_path / "ab.parquet", tmp_path / "abc.parquet"
    merge([a, b], ab, "newest")
    for path in (ab, c):
        push_to_store(str(path), folder)
    merge([ab, c], all_three, "newest")
    pulled, merged = load_lut(store_to_cache(folder)), load_lut(all_three)
    assert pulled.table.equals(merged.table)
    origins = set(pulled.table["origin"].to_pylist())
    assert None not in origins
    assert pulled.metadata["merged"].keys() == origins
    for key in ("merged", "licence", "title", "authors", "spaces", "environments", "content_hash"):
        assert pulled.metadata[key] == merged.metadata[key]
    assert {facts["title"] for facts in pulled.metadata["merged"].values()} == {"B", "C"}


def test_a_table_that_is_alone_in_a_store_comes_back_as_it_was(folder, table, tmp_path):
    a, b = table("a", 1.0, title="A", licence="MIT OR Apache-2.0"), table("b", 2.0, hours=1)
    merge([a, b], tmp_path / "ab.parquet", "newest")
    for number, path in enumerate((a, tmp_path / "ab.parquet")):
        push_to_store(str(path), f"{folder}{number}")
        pulled, pushed = (
            load_lut(each).metadata for each in (store_to_cache(f"{folder}{number}"), path)
        )
        for key in ("content_hash", "merged", "licence", "title", "authors"):
            assert pulled[key] == pushed[key]


def test_equal_rows_of_two_tables_have_the_origin_that_a_merge_gives_them(folder, table, tmp_path):
    a = table("a", 1.0)
    rows = load_lut(a).table.to_pylist()
    for number, name in enumerate("bcd"):
        path = tmp_path / f"{name}.parquet"
        write_lut(path, rows[number:], metadata={**load_lut(a).metadata, "title": name})
        push_to_store(str(path), folder)
    push_to_store(str(a), folder)
    merge([tmp_path / f"{name}.parquet" for name in "abcd"], tmp_path / "m.parquet", "newest")
    pulled, merged = load_lut(store_to_cache(folder)), load_lut(tmp_path / "m.parquet")
    assert pulled.table.equals(merged.table)
    assert pulled.metadata["merged"] == merged.metadata["merged"]


def test_rows_that_were_appended_without_a_table_have_an_origin_beside_others(folder, table, make):
    store = Store(folder)
    for number in range(2):
        rows = [make.row(op, 1.0) for op in make.ops[3 * number : 3 * number + 3]]
        store.append(rows, {**make.metadata, "title": "Farm"}, writer="w", sequence=number)
    alone = load_lut(store_to_cache(folder)).metadata
    push_to_store(str(table("t", 2.0, hours=-1)), folder)
    pulled = load_lut(store_to_cache(folder))
    assert set(pulled.table["origin"].to_pylist()) == {alone["content_hash"][:16]}
    told = pulled.metadata["merged"][alone["content_hash"][:16]]
    assert (told["content_hash"], told["title"]) == (alone["content_hash"], "Farm")


def test_one_environment_id_for_two_identities_is_refused_as_in_a_merge(folder, table, make):
    push_to_store(str(table("a", 1.0)), folder)
    changed = json.loads(json.dumps(make.metadata["environments"]))
    changed[make.here]["identity"]["device"] = "cpu-b"
    push_to_store(str(table("b", 2.0, environments=changed)), folder)
    with pytest.raises(LutError, match=r"environment env-here has device 'cpu-.' in . and"):
        store_to_cache(folder)


@pytest.mark.parametrize("latency_ms", [1.0, 2.0, 3.0, 4.0])
def test_visits_once_went_where_the_same_rows_were_pushed_without_them(
    folder, table, tmp_path, latency_ms
):
    """Of equal rows the hash of the batch chose whose visits are taken."""
    full, bare = table("full", latency_ms, visits=True), tmp_path / "bare.parquet"
    merge([full], bare, visits=False)
    for path in (full, bare):
        push_to_store(str(path), folder)
    assert load_lut(store_to_cache(folder)).visits.equals(load_lut(full).visits)


def test_visits_of_equal_rows_of_several_batches_are_there_once(folder, make):
    store = Store(folder)
    rows = [make.row(op, 1.0) for op in make.ops]
    visits = [visit for row in rows for visit in make.visits(row)]
    for number, part in enumerate((visits[:10], visits[5:], visits)):
        store.append(rows, make.metadata, writer="w", sequence=number, visits=part)
    other = [make.row(op, 0.5, latency_low_ms=0.1) for op in make.ops]
    theirs = [visit for row in other for visit in make.visits(row)]
    store.append(other, make.metadata, writer="o", sequence=0, visits=theirs)
    back = load_lut(store_to_cache(folder, on_conflict="most-precise"))
    assert back.visits.num_rows == len(visits)
    assert set(back.visits["p10_ms"].to_pylist()) == {1.0}
