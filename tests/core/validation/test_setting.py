"""A table's setting is put together again from its environment, on every backend that is here."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof.backends import backend_class
from hwprof.build import BuildOptions, build_lut
from hwprof.validation.setting import Wanted, find_setting, require_same_environment

SETTINGS = [
    ("onnxruntime", {}),
    ("onnxruntime", {"graph_optimization": "basic"}),
    ("pytorch", {"layout": "channels_last"}),
    ("tflite", {}),
    ("tflite", {"xnnpack": "off"}),
    ("tvm", {}),
    ("simulated", {}),
]


@pytest.mark.parametrize(("backend", "options"), SETTINGS)
def test_setting_of_a_table_is_the_one_that_built_it(backend, options, tmp_path):
    """LiteRT's environment says `xnnpack: true`, which its option of that name refused."""
    found = backend_class(backend).probe()
    if not found.available:
        pytest.skip(f"{backend} lacks {found.missing}")
    path = tmp_path / "lut.parquet"
    build_lut(BuildOptions(backend, "tiny", path, options=options, effort="fast", limit=1))
    setting = find_setting(path, Wanted())
    assert {**setting.build.options, **options} == dict(setting.build.options)
    require_same_environment(setting)


def test_rows_of_a_table_in_several_row_groups_could_not_be_told_apart_by_kind(calibrated, wanted):
    """Each row group has a dictionary of its own, in the order of its values."""
    whole = find_setting(calibrated, wanted)
    stored = pq.ParquetFile(calibrated)
    rows, metadata = stored.read(), stored.metadata.metadata
    place = rows.schema.get_field_index("cache")
    others = rows.set_column(place, rows.schema.field(place), pa.array(["in_chain"] * len(rows)))
    rows = pa.concat_tables([rows, others])
    with pq.ParquetWriter(calibrated, rows.schema, store_schema=False) as writer:
        writer.write_table(rows, row_group_size=3)
        writer.add_key_value_metadata({k: v for k, v in metadata.items() if k.startswith(b"hwprof.")})
    assert find_setting(calibrated, replace(wanted, cache="warm")).scope == whole.scope
