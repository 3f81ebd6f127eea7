"""Backends are found by entry point; broken and clashing ones are told, never crash the listing."""

import sys
from pathlib import Path

import pytest

from hwprof.backends import backend_class, backend_names, load_backend
from hwprof.backends.listing import list_backends
from hwprof.errors import BackendError, BackendUnavailable

OUT_OF_TREE = Path(__file__).parent / "out_of_tree"


@pytest.fixture
def out_of_tree(monkeypatch):
    monkeypatch.syspath_prepend(str(OUT_OF_TREE))
    yield
    sys.modules.pop("faulty_backend", None)


def test_built_in_backends_are_entry_points():
    assert {"onnxruntime", "simulated", "replay"} <= set(backend_names())


def test_third_party_backend_is_found_by_its_entry_point(out_of_tree):
    assert backend_class("faulty").__module__ == "faulty_backend"


def test_unknown_backend_names_the_known_ones_and_the_nearest():
    with pytest.raises(BackendUnavailable, match=r"choose of .*simulated.*did you mean onnxruntime"):
        load_backend("onnxruntim")


def test_backend_that_does_not_import_is_an_entry_of_the_listing(out_of_tree):
    entries = {entry.name: entry for entry in list_backends()}
    assert not entries["broken"].available
    assert "does not import" in entries["broken"].missing
    assert entries["onnxruntime"].available


def test_entry_point_that_is_no_backend_is_refused(out_of_tree):
    with pytest.raises(BackendError, match="no hwprof Backend"):
        backend_class("no_backend")


def test_name_claimed_by_two_packages_names_both(out_of_tree, tmp_path, monkeypatch):
    info = tmp_path / "rival-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[hwprof.backends]\nfaulty = rival:Backend\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendUnavailable, match="faulty-backend, rival"):
        backend_class("faulty")


def test_missing_runtime_says_what_installs_it(monkeypatch):
    monkeypatch.setattr("hwprof.backends.onnxruntime.DISTRIBUTIONS", ("onnxruntime-that-is-not-there",))
    with pytest.raises(BackendUnavailable, match="pip install onnxruntime"):
        load_backend("onnxruntime")


@pytest.mark.parametrize("name", ["onnxruntime", "simulated", "replay"])
def test_importing_a_backend_imports_no_runtime(name):
    import subprocess

    code = (
        "import sys; from hwprof.backends import backend_class\n"
        f"backend_class({name!r}).probe()\n"
        "print([m for m in ('onnxruntime', 'torch', 'tvm', 'onnx', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
