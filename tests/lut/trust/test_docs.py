"""The page about trust."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs" / "trust.md"


def test_the_documented_python_runs(lut, monkeypatch, capsys):
    monkeypatch.chdir(lut.path.parent)
    blocks = [block.split("```")[0] for block in DOCS.read_text().split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), {})
    assert capsys.readouterr().out.startswith("True [('rows', True), ('visits', True)")
