"""`hwprof.search` asks for PyTorch only when it is needed, and says how to get it."""

from __future__ import annotations

import builtins
import subprocess
import sys

import pytest

import hwprof.search
from hwprof.errors import BackendUnavailable


def test_importing_the_package_does_not_import_torch() -> None:
    program = "import sys, hwprof.search; print('torch' in sys.modules, hwprof.search.__all__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"
    assert "ExpectedLatency" in done.stdout


@pytest.mark.parametrize("name", hwprof.search.__all__)
def test_every_public_name_is_there(name: str) -> None:
    pytest.importorskip("torch")
    assert getattr(hwprof.search, name) is not None


@pytest.mark.parametrize("name", hwprof.search.__all__)
def test_without_torch_the_error_says_what_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide(monkeypatch, "torch")
    with pytest.raises(BackendUnavailable, match=r"pip install 'hwprof\[torch\]'") as caught:
        getattr(hwprof.search, name)
    assert "\n" not in str(caught.value)


def test_another_missing_module_is_not_blamed_on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "pyarrow")
    monkeypatch.delitem(sys.modules, "hwprof.composition.pricing", raising=False)
    pytest.importorskip("torch")
    with pytest.raises(ModuleNotFoundError, match="pyarrow"):
        _ = hwprof.search.ExpectedLatency


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Searcher'"):
        _ = hwprof.search.Searcher


def _hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make `import module` fail as if it were not installed."""
    real = builtins.__import__

    def without(name: str, *args: object, **more: object) -> object:
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **more)  # type: ignore[arg-type]

    for name in [name for name in sys.modules if name.startswith("hwprof.search.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
