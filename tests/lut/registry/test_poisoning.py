"""What one place serves is never given for what another serves."""

from __future__ import annotations

import hashlib
import json
import shutil

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hwprof.cli.lut import lut as command
from hwprof.lut import load_lut
from hwprof.lut.places import local_table, pull_to_cache
from hwprof.lut.registry import push, registry_to_cache

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def forged(lut, tmp_path):
    """Visits with other latencies that say of themselves what the genuine ones say."""
    genuine = pq.ParquetFile(lut.path.with_name("lut.visits.parquet"))
    table = genuine.read()
    number = table.column_names.index("p50_ms")
    faster = pc.multiply(table.column("p50_ms"), pa.scalar(0.5, table.schema.types[number]))
    table = table.set_column(number, table.schema.field(number), faster)
    path = tmp_path / "forged.parquet"
    schema = genuine.schema_arrow
    pq.write_table(table.cast(schema).replace_schema_metadata(schema.metadata), path)
    return path.read_bytes()


@pytest.fixture
def registries(lut, forged, tmp_path):
    """A genuine registry, and a hostile one with the same table and forged visits."""
    genuine, hostile = tmp_path / "genuine", tmp_path / "hostile"
    push(str(lut.path), str(genuine), "pixel")
    shutil.copytree(genuine, hostile)
    sha256 = hashlib.sha256(forged).hexdigest()
    (hostile / "objects" / f"{sha256}.parquet").write_bytes(forged)
    (entry,) = (hostile / "entries" / "pixel").iterdir()
    told = json.loads(entry.read_bytes())
    told["visits"] |= {"sha256": sha256, "bytes": len(forged)}
    entry.write_text(json.dumps(told))
    return genuine, hostile


def test_a_hostile_registry_once_put_its_visits_beside_anothers_table(registries, lut, tmp_path):
    genuine, hostile = registries
    for place, out in ((hostile, "a.parquet"), (genuine, "b.parquet")):
        words = ["pull", f"{place}/pixel", "--out", str(tmp_path / out)]
        assert CliRunner().invoke(command, words).exit_code == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not load_lut(tmp_path / "a.parquet").visits.equals(lut.visits)
    assert load_lut(tmp_path / "b.parquet").visits.equals(lut.visits)
    by_hash = registry_to_cache(f"{genuine}/pixel@{lut.metadata['content_hash']}")
    assert load_lut(by_hash).visits.equals(lut.visits)


def test_a_table_from_a_registry_is_not_the_one_that_a_store_made(registries, lut):
    from hwprof.lut.places.cache import undamaged_table

    genuine, _ = registries
    sha256 = registry_to_cache(f"{genuine}/pixel").parent.name
    assert undamaged_table(sha256) is None


def test_a_url_once_got_the_visits_that_another_had_beside_the_same_table(memory, lut, forged):
    files = fsspec.filesystem("memory")
    visits = {"shared": lut.path.with_name("lut.visits.parquet").read_bytes(), "hostile": forged}
    for folder, data in visits.items():
        files.pipe_file(f"/{folder}/t.parquet", lut.path.read_bytes())
        files.pipe_file(f"/{folder}/t.visits.parquet", data)
    assert not load_lut(pull_to_cache("memory://hostile/t.parquet")).visits.equals(lut.visits)
    for _ in range(2):
        assert load_lut(local_table(f"{memory}/t.parquet")).visits.equals(lut.visits)


def test_a_kept_copy_of_a_url_that_was_changed_was_once_taken(memory, lut, save, make):
    files = fsspec.filesystem("memory")
    files.pipe_file("/shared/t.parquet", lut.path.read_bytes())
    kept = pull_to_cache(f"{memory}/t.parquet")
    shutil.copy(save([make.row(make.ops[0], 99.0)], "other.parquet").path, kept)
    assert local_table(f"{memory}/t.parquet").read_bytes() == lut.path.read_bytes()


@pytest.mark.parametrize("name", ["lut.parquet", "lut.visits.parquet"])
def test_a_kept_copy_that_was_damaged_is_fetched_again(registries, name):
    genuine, _ = registries
    kept = registry_to_cache(f"{genuine}/pixel")
    whole = kept.with_name(name).read_bytes()
    kept.with_name(name).write_bytes(b"damaged")
    assert registry_to_cache(f"{genuine}/pixel") == kept
    assert kept.with_name(name).read_bytes() == whole
