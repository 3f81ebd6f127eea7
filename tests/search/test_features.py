"""SE and activation: variants of a choice, and the ones that pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.search.features import has_se, keep_what_pays, variant
from hwprof.space import load_space

SPACE = load_space("s3nas-cifar")
numbers = st.floats(-2, 2, allow_subnormal=False)


def test_variants_differ_in_what_was_asked_alone():
    for choice, found in enumerate(SPACE.positions[2].choices[:-1]):
        (op,) = found.ops
        turned = variant(SPACE, 2, choice, se=not has_se(SPACE, 2, choice))
        (other,) = SPACE.positions[2].choices[turned].ops
        assert (other.mix, other.activation) == (op.mix, op.activation)
        assert bool(other.se_channels) != bool(op.se_channels)
        swished = variant(SPACE, 2, choice, activation="hswish")
        (other,) = SPACE.positions[2].choices[swished].ops
        assert (other.mix, other.se_channels, other.activation) == (op.mix, op.se_channels, "hswish")


def test_a_skip_has_no_variants_and_a_space_without_se_none_with_it():
    skip = len(SPACE.positions[2].choices) - 1
    assert variant(SPACE, 2, skip, se=True) is None
    assert variant(load_space("s3nas"), 2, 0, se=True) is None


@pytest.mark.parametrize(
    ("worth", "extra", "budget", "kept"),
    [
        ([3.0, 1.0, 2.0], [1.0, 1.0, 1.0], 2.0, [True, False, True]),
        ([3.0, 1.0, 2.0], [1.0, 1.0, 1.0], 0.0, [False, False, False]),
        ([1.0, 1.0], [0.5, 2.0], 1.0, [True, False]),
        ([0.0, -1.0], [0.1, 0.1], 9.0, [False, False]),
        ([1.0, 1.0], [0.0, -1.0], 0.0, [True, True]),
    ],
)
def test_what_is_worth_least_for_its_cost_goes_first(worth, extra, budget, kept):
    assert keep_what_pays(worth, extra, budget) == kept


@given(st.lists(st.tuples(numbers, st.floats(0, 2)), max_size=12), st.floats(0, 5))
def test_what_is_kept_fits_and_is_worth_something(features, budget):
    worth, extra = [w for w, _ in features], [e for _, e in features]
    kept = keep_what_pays(worth, extra, budget)
    assert sum(e for e, keep in zip(extra, kept, strict=True) if keep) <= budget
    assert all(w > 0 for w, keep in zip(worth, kept, strict=True) if keep)
