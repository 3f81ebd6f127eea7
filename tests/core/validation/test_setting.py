"""A table's setting is put together again from its environment, on every backend that is here."""

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
