"""Every test of the op vocabulary keeps its blocks in a folder of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def block_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "hwprof-home"
    monkeypatch.setenv("HWPROF_HOME", str(home))
    return home / "blocks"
