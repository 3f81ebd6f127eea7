"""Citations."""

from __future__ import annotations

import pytest

from hwprof.lut.trust.cite import cite
from hwprof.lut.trust.facts import set_facts


def test_a_table_that_says_nothing_is_cited_by_space_device_and_hash(lut):
    made = cite(lut.path)
    assert made.title == "Latency table of tiny"
    assert made.devices == ("cpu-a",)
    assert made.licence is None
    text = made.text()
    assert text.isprintable()
    for part in ("Latency table of tiny (20", "6 rows on cpu-a", made.content_hash, "no licence given"):
        assert part in text


def test_authors_title_and_licence_are_cited(lut):
    set_facts(lut.path, {"title": "T", "authors": ["Ada Lovelace", "C. B."], "licence": "CC-BY-4.0"})
    made = cite(lut.path)
    assert made.text().startswith(f"Ada Lovelace, C. B. ({made.year}). T [Data set]. 6 rows")
    assert "CC-BY-4.0" in made.text()
    assert "author = {{Ada Lovelace} and {C. B.}}," in made.bibtex()
    assert made.summary()["bibtex"] == made.bibtex()


@pytest.mark.parametrize(
    "text", ["a_b & 100% #1", "{x}", "\\input{/etc/passwd}", "x^2 ~ $y$", "and and"]
)
def test_bibtex_holds_no_command_of_a_title_or_an_author(lut, text):
    set_facts(lut.path, {"title": text, "authors": [text]})
    entry = cite(lut.path).bibtex()
    depth = 0
    for before, character in zip(" " + entry, entry, strict=False):
        if before != "\\":
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0
            assert character not in "&%$#^~"
    assert depth == 0
    assert "\\input" not in entry


def test_a_table_of_many_devices_and_spaces_names_three(save, rows, make, monkeypatch):
    facts = {"runtime": "ort", "runtime_version": "1"}
    more = {
        f"env-{n}": {"identity": {**facts, "device": f"board {n}"}, "conditions": {}} for n in range(6)
    }
    monkeypatch.setitem(make.metadata, "environments", {**make.metadata["environments"], **more})
    monkeypatch.setitem(make.metadata, "spaces", ["a", "b"])
    made = cite(save(rows).path)
    assert len(made.devices) == 7
    assert "on board 0, board 1, board 2 and 4 more;" in made.text()
    assert made.title == "Latency table of a and b"
