"""What a merged table says about itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.merging import merge
from hwprof.lut.merging.metadata import join_licences
from hwprof.lut.trust.footer import replace_metadata
from hwprof.lut.write import update_metadata

LICENCES = st.sampled_from([None, "MIT", "CC-BY-4.0", "MIT OR Apache-2.0", "CC0-1.0 AND MIT",
                            "MIT OR X AND Y", "(MIT OR X) AND Y", "((A OR B) AND C) OR D",
                            "Licensed to Alice AND Bob", "in our own words", "ours (2026)"])  # fmt: skip


@pytest.mark.parametrize(
    ("licences", "joined"),
    [
        ([], None),
        ([None, None], None),
        (["MIT", "MIT"], "MIT"),
        (["MIT", "CC-BY-4.0"], "CC-BY-4.0 AND MIT"),
        (["MIT", None], "MIT AND NOASSERTION"),
        (["MIT OR Apache-2.0", "CC0-1.0"], "(MIT OR Apache-2.0) AND CC0-1.0"),
        (["MIT OR GPL-2.0-only AND BSD-3-Clause"], "MIT OR GPL-2.0-only AND BSD-3-Clause"),
        (["(MIT AND X) OR (X AND Y)", "(MIT)"], "((MIT AND X) OR (X AND Y)) AND (MIT)"),
        (["(MIT OR X) AND Y", "Y"], "(MIT OR X) AND Y"),
        (["Licensed to Alice AND Bob"], "Licensed to Alice AND Bob"),
        (["Licensed to Alice AND Bob", "MIT"], "(Licensed to Alice AND Bob) AND MIT"),
        (
            ["GPL-2.0-only WITH Classpath-exception-2.0", "MIT"],
            "GPL-2.0-only WITH Classpath-exception-2.0 AND MIT",
        ),
        (["(MIT"], "(MIT"),
    ],
)
def test_licences_are_joined_and_none_is_told_where_there_is_another(licences, joined):
    assert join_licences(licences) == joined


@given(a=LICENCES, b=LICENCES, c=LICENCES)
def test_joining_licences_is_associative_and_idempotent(a, b, c):
    assert join_licences([join_licences([a, b]), c]) == join_licences([a, join_licences([b, c])])
    joined = join_licences([a, b])
    assert join_licences([joined, joined]) == join_licences([joined]) == joined


def test_a_licence_with_half_a_pair_of_brackets_grew_with_each_merge():
    with pytest.raises(LutError, match=r"\(MIT has a bracket without its other one .* lut set"):
        join_licences(["(MIT", "MIT"])


def test_a_merge_once_stated_another_level_for_the_same_intervals(make, shard, tmp_path):
    wide = shard("a", [make.row(make.ops[0])])
    replace_metadata(wide, {"interval_level": b"0.99"})
    with pytest.raises(LutError, match=r"a\.parquet has intervals of level 0\.99, this hwprof writes"):
        merge([wide], tmp_path / "out.parquet")
    with pytest.raises(LutError, match=r"interval_level is 0\.99"):
        update_metadata(wide, validation=[])
    assert load_lut(wide).metadata["interval_level"] == 0.99


def fit(model, at, **scope):
    return {
        "scope": {"space": "tiny", "statistic": "floor", **scope}, "model": model, "fitted_at": at,
        "error": 0.01, "networks": [],
    }  # fmt: skip


def test_the_last_fit_of_each_scope_stays(make, shard, tmp_path):
    fits = [fit("sum", "2026-01"), fit("sum", "2026-01", cache="x")]
    a = shard("a", [make.row(make.ops[0])], composition=fits)
    b = shard("b", [make.row(make.ops[1])], composition=[fit("scale", "2026-02")])
    merged = load_lut(merge([a, b], tmp_path / "out.parquet").out)
    assert {each["model"] for each in merged.metadata["composition"]} == {"scale", "sum"}
    assert len(merged.metadata["composition"]) == 2


def test_the_last_validation_of_each_scope_stays(make, shard, tmp_path):
    old = {
        "space": "tiny", "statistic": "floor", "cache": "warm", "validated_at": "2026-01",
        "mean_error": 0.02, "within_1": 0.5, "within_2": 0.9, "networks": 30, "additive": True,
    }  # fmt: skip
    new = old | {"validated_at": "2026-02", "mean_error": 0.01}
    a, b = shard("a", [make.row(make.ops[0])], validation=[new]), shard("b", [make.row(make.ops[1])])
    c = shard("c", [make.row(make.ops[2])], validation=[old, old | {"measured_in": "elsewhere"}])
    merged = load_lut(merge([c, a, b], tmp_path / "out.parquet").out)
    assert sorted(each["mean_error"] for each in merged.metadata["validation"]) == [0.01, 0.02]


def test_spaces_are_united_and_conditions_are_the_last_ones(make, shard, tmp_path):
    def environments(time):
        facts = make.metadata["environments"][make.here]
        return {make.here: {**facts, "conditions": {"time": time}}}

    a = shard("a", [make.row(make.ops[0])], spaces=["x", "s"], environments=environments("2026-01"))
    b = shard("b", [make.row(make.ops[1])], spaces=["y", "s"], environments=environments("2025-12"))
    merged = load_lut(merge([a, b], tmp_path / "out.parquet").out)
    assert merged.metadata["spaces"] == ["s", "x", "y"]
    assert merged.environments[make.here]["conditions"] == {"time": "2026-01"}


def test_one_environment_id_for_two_identities_is_refused(make, shard, tmp_path):
    other = {make.here: {"identity": {"device": "cpu-b"}, "conditions": {}}}
    a = shard("a", [make.row(make.ops[0])])
    b = shard("b", [make.row(make.ops[1])], environments=other)
    with pytest.raises(LutError, match=f"environment {make.here} has device 'cpu-a' in .*a.parquet"):
        merge([a, b], tmp_path / "out.parquet")


def test_title_and_authors_are_told_of_the_origin_and_not_of_the_whole(make, shard, tmp_path):
    from hwprof.lut.trust.facts import set_facts

    a, b = (shard(name, [make.row(op)]) for name, op in zip("ab", make.ops, strict=False))
    set_facts(a, {"title": "Phones", "authors": ["A. Author"]})
    merged = load_lut(merge([a, b], tmp_path / "out.parquet").out)
    told = merged.metadata["merged"]
    assert told[load_lut(a).metadata["content_hash"][:16]]["authors"] == ["A. Author"]
    assert "title" not in told[load_lut(b).metadata["content_hash"][:16]]
    assert merged.metadata.get("title") is None


def test_a_row_whose_origin_nobody_describes_keeps_it(make, shard, tmp_path):
    a = shard("a", [make.row(make.ops[0], origin="f" * 16)])
    merged = load_lut(merge([a], tmp_path / "out.parquet").out)
    assert merged.table.column("origin").to_pylist() == ["f" * 16]
    assert merged.metadata["merged"] == {}
