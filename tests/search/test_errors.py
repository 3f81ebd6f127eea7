"""What ExpectedLatency refuses: tables that lack rows, and tensors that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hwprof.errors import LutError, MissingRow, SpaceError  # noqa: E402 - torch is optional
from hwprof.lut import Lut  # noqa: E402
from hwprof.search import ExpectedLatency  # noqa: E402
from hwprof.space import Space  # noqa: E402


@pytest.fixture(scope="module")
def space(make: Any) -> Space:
    return make.space([[[op], []] for op in make.pool[:20]], "twenty")


@pytest.fixture(scope="module")
def module(pool_lut: Lut, space: Space) -> ExpectedLatency:
    return ExpectedLatency(pool_lut, space)


@pytest.mark.parametrize("absent", [1, 3, 12, 19])
def test_every_missing_op_is_named_in_one_line(
    absent: int, save: Callable[..., Lut], make: Any, space: Space
) -> None:
    table = save([make.row(op, 1.0) for op in make.pool[absent:20]])
    with pytest.raises(MissingRow) as caught:
        ExpectedLatency(table, space)
    message = str(caught.value)
    assert "\n" not in message
    assert "hwprof build-lut" in message
    labels = [op.label for op in make.pool[:absent]]
    if absent > 5:
        assert message.endswith(f"; all of them: {', '.join(labels)}")
    else:
        assert all(label in message for label in labels)


def test_a_table_of_another_space_names_all_ops(
    save: Callable[..., Lut], make: Any, space: Space
) -> None:
    table = save([make.row(op, 1.0) for op in make.pool[20:]])
    with pytest.raises(MissingRow) as caught:
        ExpectedLatency(table, space)
    assert all(op.label in str(caught.value) for op in make.pool[:20])


def test_unstable_and_failed_rows_are_missing_until_allowed(
    save: Callable[..., Lut], make: Any, space: Space
) -> None:
    rows = [
        make.row(op, 1.0, state="unstable" if i < 8 else "converged")
        for i, op in enumerate(make.pool[:20])
    ]
    table = save(rows)
    with pytest.raises(MissingRow) as caught:
        ExpectedLatency(table, space)
    assert all(op.label in str(caught.value) for op in make.pool[:8])
    assert ExpectedLatency(table, space, allow_unstable=True).latencies[0].tolist() == [1.0, 0.0]


def test_two_environments_are_never_mixed(save: Callable[..., Lut], make: Any, space: Space) -> None:
    here = [make.row(op, 1.0) for op in make.pool[:20]]
    there = [make.row(op, 2.0, environment_id=make.there) for op in make.pool[:20]]
    table = save(here + there)
    with pytest.raises(MissingRow) as caught:
        ExpectedLatency(table, space)
    assert make.here in str(caught.value)
    assert make.there in str(caught.value)
    assert "all of them" not in str(caught.value)
    assert ExpectedLatency(table, space, environment=make.there).latencies[0, 0] == 2.0


def test_rows_of_another_cache_state_are_not_taken(pool_lut: Lut, space: Space) -> None:
    with pytest.raises(MissingRow, match="cache evicted") as caught:
        ExpectedLatency(pool_lut, space, cache="evicted")
    assert "all of them" not in str(caught.value)


def test_a_column_without_numbers_is_refused(pool_lut: Lut, space: Space) -> None:
    with pytest.raises(LutError, match="'label' is no number"):
        ExpectedLatency(pool_lut, space, column="label")
    with pytest.raises(MissingRow, match="energy_mj is null"):
        ExpectedLatency(pool_lut, space, column="energy_mj")


WRONG: dict[str, tuple[Callable[[ExpectedLatency], object], list[str]]] = {
    "positions and choices swapped": (
        lambda m: m(torch.rand(2, 20)), ["probabilities of twenty", "(..., 20, 2)", "(2, 20)"],
    ),
    "a position too few": (lambda m: m(torch.rand(5, 19, 2)), ["(..., 20, 2)", "(5, 19, 2)"]),
    "a vector": (lambda m: m(torch.rand(20)), ["(..., 20, 2)", "(20,)"]),
    "logits too wide": (lambda m: m.probabilities(torch.rand(20, 3)), ["logits of twenty", "(20, 3)"]),
    "a list too short": (lambda m: m([torch.rand(2)] * 19), ["20 positions", "of 19"]),
    "a part too wide": (
        lambda m: m([torch.rand(2)] * 7 + [torch.rand(3)] * 13),
        ["twenty block7", "2 choices", "3 probabilities"],
    ),
    "a part without choices": (lambda m: m([torch.tensor(1.0)] * 20), ["block0", "0 probabilities"]),
    "parts of different batches": (
        lambda m: m([torch.rand(4, 2)] * 19 + [torch.rand(5, 2)]), ["batch shapes", "(4,)", "(5,)"],
    ),
    "no temperature": (
        lambda m: m.probabilities(torch.rand(20, 2), 0.0), ["temperature", "above 0", "0.0"],
    ),
    "temperature that is no number": (
        lambda m: m.probabilities(torch.rand(20, 2), float("nan")), ["temperature", "nan"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_tensor_that_does_not_fit_is_refused_in_one_line(module: ExpectedLatency, name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(SpaceError) as caught:
        call(module)
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message
