"""Tables with nothing wrong print nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprof.build import BuildOptions, build_lut
from hwprof.lut import load_lut
from hwprof.lut.lint import Finding, at_least, lint
from hwprof.ops import conv, depthwise, fc, head, mbconv, mixconv, pool, skip, squeeze_excite

PRIMITIVES = [
    *(conv((1, 16, side, side), width, 3) for side in (7, 14, 28) for width in (16, 24, 40)),
    *(depthwise((1, 64, 28, 28), kernel, activation="relu") for kernel in (1, 3, 5)),
    *(mbconv((batch, 16, 14, 14), 16, 3, 4, se_ratio=ratio, residual=residual)
      for batch in (1, 4) for ratio in (0, 0.25) for residual in (False, True)),
    *(mixconv((1, 16, 14, 14), 16, mix) for mix in ({3: 16, 5: 16}, {3: 32, 5: 32})),
    mixconv((1, 16, 14, 14), 16, {3: 16, 5: 16, 7: 16}),
    conv((1, 16, 14, 14), 64, activation="relu"), conv((1, 64, 14, 14), 16),
    squeeze_excite((1, 64, 14, 14)), head((1, 16, 7, 7), 10, hidden=64), fc((1, 64), 10),
    pool((1, 16, 14, 14), "max", 3), skip((1, 16, 7, 7)),
]  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), speed=st.floats(0.02, 10.0))
def test_a_measured_table_has_no_findings_however_fast_the_device_and_whatever_its_noise(
    measure, table, s3nas_ops, seed, speed
):
    rows = measure([*s3nas_ops, *PRIMITIVES], seed, speed, space="s3nas")
    rows = [row if i < len(s3nas_ops) else row | {"space": None} for i, row in enumerate(rows)]
    assert lint(table(rows)) == []


def test_a_simulated_build_of_every_noise_it_has_states_for_has_no_findings(tmp_path):
    for target in ("exact", "quiet"):
        out = tmp_path / f"{target}.parquet"
        build_lut(BuildOptions("simulated", "tiny", out, target=target, effort="fast"))
        assert lint(load_lut(out)) == []


def test_an_empty_table_and_a_table_of_failures_are_no_error(found, make, measure):
    assert found([]) == []
    failed = [make.row(op, None, space=None) for op in make.ops]
    assert found(failed) == []
    assert found([*failed, *measure(PRIMITIVES, space=None)]) == []


def test_findings_come_worst_first_and_know_how_bad_they_are(found, s3nas):
    s3nas[0]["latency_ms"] = -1.0
    s3nas[1] |= {"state": "unstable", "reason": "floors differ"}
    result = found(s3nas[:-1])
    assert [finding.severity for finding in result] == ["error", "warning", "note"]
    assert at_least(Finding("warning", "r", "m"), "note")
    assert not at_least(Finding("warning", "r", "m"), "error")


def test_lint_does_not_change_the_table(table, s3nas):
    lut = table(s3nas)
    before = lut.table
    lint(lut)
    assert lut.table.equals(before)


@pytest.mark.parametrize("parts", [1, 3])
def test_rows_in_several_chunks_give_the_same_findings(table, s3nas, parts):
    import pyarrow as pa

    s3nas[3] = s3nas[3] | {"latency_ms": 1e-9}
    whole = table(s3nas)
    pieces = np.array_split(np.arange(len(s3nas)), parts)
    content = pa.concat_tables([whole.table.take(pa.array(piece)) for piece in pieces])
    whole._read = content.select
    whole._kept.clear()
    assert whole.table.column(0).num_chunks == parts
    assert any("latency_ms is below a nanosecond" in finding.message for finding in lint(whole))
