"""More work in less time: families, parts of an op, ops inside blocks and chains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwprof.lut import chain_columns
from hwprof.ops import (
    OpSpec,
    conv,
    depthwise,
    fc,
    fused_mbconv,
    head,
    lower,
    mbconv,
    pool,
    squeeze_excite,
)

SHAPE = (1, 32, 28, 28)
BLOCK = OpSpec("mbconv", SHAPE, 32, mix=((3, 128),), activation="relu")
MIX = replace(BLOCK, kind="mixconv", mix=((3, 64), (5, 64)))
BASIC = OpSpec("basic_block", SHAPE, 32, mix=((3, 32),), activation="relu")


def at(row, latency_ms, half=0.02, **changes):
    low, high = latency_ms * (1 - half), latency_ms * (1 + half)
    return row | {"latency_ms": latency_ms, "latency_low_ms": low, "latency_high_ms": high} | changes


def pairs(findings):
    return [finding for finding in findings if finding.rule == "monotone"]


FAMILIES = [
    ("kernel", BLOCK, replace(BLOCK, mix=((5, 128),))),
    ("kernel", conv(SHAPE, 32, 1), conv(SHAPE, 32, 3)),
    ("kernel", pool(SHAPE, "max", 2), pool(SHAPE, "max", 3)),
    ("expansion", BLOCK, replace(BLOCK, mix=((3, 192),))),
    ("input channels", conv(SHAPE, 24), conv((1, 64, 28, 28), 24)),
    ("output channels", conv(SHAPE, 32, 3), conv(SHAPE, 64, 3)),
    ("channels", depthwise(SHAPE, 3), depthwise((1, 64, 28, 28), 3)),
    ("channels", mbconv(SHAPE, 32, 3, 4), mbconv((1, 64, 28, 28), 64, 3, 4)),
    ("resolution", BLOCK, replace(BLOCK, shape=(1, 32, 32, 32))),
    ("batch", BLOCK, replace(BLOCK, shape=(4, 32, 28, 28))),
    ("kernel mix", MIX, replace(MIX, mix=((3, 64), (7, 64)))),
    ("kernel mix", replace(MIX, mix=((3, 96), (5, 32))), replace(MIX, mix=((3, 32), (5, 96)))),
    ("kernel mix", MIX, replace(MIX, mix=((3, 64), (5, 128)))),
]
PARTS = [
    ("squeeze-and-excitation", BLOCK, replace(BLOCK, se_channels=8)),
    ("squeeze-and-excitation", MIX, replace(MIX, se_channels=8)),
    ("residual", BLOCK, replace(BLOCK, residual=True)),
    ("activation", conv(SHAPE, 32, 3), conv(SHAPE, 32, 3, activation="hswish")),
    ("a part of the mix", replace(BLOCK, mix=((3, 64),)), MIX),
    ("a part of the mix", MIX, replace(MIX, mix=((3, 64), (5, 64), (7, 64)))),
]
INSIDE = [
    (conv(SHAPE, 128, activation="relu"), BLOCK),
    (depthwise((1, 128, 28, 28), 3, activation="relu"), BLOCK),
    (depthwise((1, 64, 28, 28), 5, activation="relu"), MIX),
    (conv((1, 128, 14, 14), 64), mbconv(SHAPE, 64, 3, 4, stride=2)),
    (OpSpec("se", (1, 128, 28, 28), 128, se_channels=8), replace(BLOCK, se_channels=8)),
    (conv(SHAPE, 128, 3, activation="relu"), fused_mbconv(SHAPE, 32, 3, 4, residual=False)),
    (conv(SHAPE, 32, 3, activation="relu"), BASIC),
    (conv(SHAPE, 32, 3), OpSpec("relu_conv", SHAPE, 32, mix=((3, 32),))),
    (conv((1, 32, 7, 7), 640, activation="relu"), head((1, 32, 7, 7), 10, hidden=640)),
    (fc((1, 640), 1000), head((1, 32, 7, 7), 1000, hidden=640)),
]


@pytest.mark.parametrize(("what", "small", "large"), [*FAMILIES, *PARTS])
def test_an_op_slower_than_one_that_does_more_is_a_warning(found, make, what, small, large):
    (finding,) = pairs(found([at(make.row(small), 1.3), at(make.row(large), 1.0)], spaces=[]))
    assert finding.severity == "warning"
    assert set(finding.row_ids) == {small.op_id, large.op_id}
    assert f"({what})" in finding.message


@pytest.mark.parametrize(("small", "large"), INSIDE)
def test_a_block_faster_than_an_op_inside_it_is_a_warning(found, make, small, large):
    (finding,) = pairs(found([at(make.row(small), 1.5), at(make.row(large), 1.0)], spaces=[]))
    assert set(finding.row_ids) == {small.op_id, large.op_id}


@pytest.mark.parametrize("pair", [*(p[1:] for p in FAMILIES), *(p[1:] for p in PARTS), *INSIDE])
def test_the_same_ops_in_order_or_within_their_intervals_pass(found, make, pair):
    small, large = (make.row(op) for op in pair)
    assert found([at(small, 1.0), at(large, 1.3)], spaces=[]) == []
    assert found([at(small, 1.3, half=0.15), at(large, 1.0, half=0.15)], spaces=[]) == []
    assert found([at(small, 1.3, state="unstable", reason="x"), at(large, 1.0)], spaces=[]) == []
    elsewhere = at(small, 1.3, cache="evicted")
    assert found([elsewhere, at(large, 1.0)], spaces=[]) == []


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (conv((1, 24, 28, 28), 32), conv(SHAPE, 32)),  # 32 fills a vector, 24 does not
        (replace(BLOCK, mix=((3, 120),)), BLOCK),
        (replace(MIX, mix=((3, 88), (5, 40))), MIX),
        (depthwise(SHAPE, 1), depthwise(SHAPE, 3)),  # few runtimes have a fast depthwise 1x1
        (replace(BLOCK, mix=((3, 16),)), replace(BLOCK, mix=((3, 32),))),  # no expansion convolution
        (replace(BASIC, shape=(1, 16, 28, 28)), BASIC),  # no convolution in its shortcut
        (BLOCK, replace(BLOCK, mix=((5, 128),), stride=2)),
        (BLOCK, replace(BLOCK, mix=((5, 128),), activation="hswish")),
        (replace(BLOCK, mix=((5, 128),)), MIX),
    ],
)
def test_what_a_runtime_may_do_or_what_does_not_compare_passes(found, make, small, large):
    assert found([at(make.row(small), 3.0), at(make.row(large), 1.0)], spaces=[]) == []


def test_rows_without_an_interval_get_a_wide_one(found, make):
    no_interval = {"latency_low_ms": None, "latency_high_ms": None}
    large = at(make.row(replace(BLOCK, mix=((5, 128),))), 1.0, **no_interval)
    assert pairs(found([at(make.row(BLOCK), 1.2, **no_interval), large], spaces=[])) == []
    assert len(pairs(found([at(make.row(BLOCK), 1.3, **no_interval), large], spaces=[]))) == 1


def test_one_wrong_row_of_a_table_is_one_finding_that_names_it_first(found, s3nas):
    row = next(row for row in s3nas if row["label"] == "mixconv_k3.128+5.64_s2_i32_o64_r56_relu")
    row |= at(row, row["latency_ms"] * 3)
    (finding,) = found(s3nas)
    assert finding.row_ids[0] == row["op_id"]
    assert len(finding.row_ids) > 3
    assert "longer than what does more" in finding.message
    row |= at(row, row["latency_ms"] / 9)
    (finding,) = found(s3nas)
    assert finding.row_ids[0] == row["op_id"]
    assert "less than what does less" in finding.message


@pytest.mark.parametrize("granularity", ["pair", "network"])
def test_a_chain_faster_than_one_of_its_ops_is_a_warning(found, make, granularity):
    ops = [conv(SHAPE, 64), squeeze_excite((1, 64, 28, 28))]
    alone = [at(make.row(ops[0]), 1.0), at(make.row(ops[1]), 0.2)]
    columns = chain_columns("ab" * 10, "chain", ops, lower(ops))
    chain = make.row(ops[0]) | columns | {"granularity": granularity}
    assert found([*alone, at(chain, 1.1)], spaces=[]) == []
    (finding,) = found([*alone, at(chain, 0.6)], spaces=[])
    assert (finding.rule, finding.row_ids) == ("monotone", (ops[0].op_id, "ab" * 10))


@pytest.mark.parametrize("granularity", ["pair", "network"])
def test_a_chain_far_above_the_sum_of_its_ops_is_of_another_unit(found, make, granularity):
    ops = [conv(SHAPE, 64), conv(SHAPE, 64), squeeze_excite((1, 64, 28, 28))]
    alone = [at(make.row(ops[0]), 1.0), at(make.row(ops[2]), 0.2)]
    columns = chain_columns("ab" * 10, "chain", ops, lower(ops[1:]))
    chain = make.row(ops[0]) | columns | {"granularity": granularity}
    assert found([*alone, at(chain, 5.0)], spaces=[]) == []
    statistics = dict.fromkeys(("min_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms"), 2000.0)
    (finding,) = found([*alone, at(chain, 2000.0, **statistics)], spaces=[])
    assert (finding.severity, finding.rule, finding.row_ids) == ("error", "units", ("ab" * 10,))
    assert "latency_ms is 9.1e+02 times the sum of the ops' own in 1 chain" in finding.message
    # Without a row of every op there is no sum.
    assert found([alone[0], at(chain, 2000.0, **statistics)], spaces=[]) == []


def test_text_that_is_no_op_is_left_to_the_rule_that_reports_it(found, make):
    rows = [
        at(make.row(BLOCK), 1.0, op_json="mbconv"),
        at(make.row(conv(SHAPE, 128, activation="relu")), 3.0),
    ]
    rows[0]["kernel_mix"] = "three"
    assert {finding.rule for finding in found(rows, spaces=[])} == {"identity"}


@pytest.mark.parametrize("granularity", ["pair", "network"])
@pytest.mark.parametrize("text", ["[" * 10_000, "{}", "[1]", '[{"kind": "conv"}]', "conv"])
def test_ops_nested_without_end_once_ended_lint_with_a_traceback(found, make, granularity, text):
    """Found by benchmarks/fuzz_tables.py in a table that `info` and `show` could read."""
    chain = make.row(BLOCK) | {"granularity": granularity, "op_json": text, "op_id": "ab" * 10}
    (finding,) = found([at(make.row(BLOCK), 1.0), at(chain, 1.0)], spaces=[])
    assert (finding.severity, finding.rule, finding.row_ids) == ("error", "identity", ("ab" * 10,))
    assert "op_json is no list of ops" in finding.message
