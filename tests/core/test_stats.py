"""Statistics on synthetic noise whose truth is known: two speeds, placement, a long right tail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof import stats

TRUE_MS = 0.7


def noisy_visits(rng, visits, slow_share=0.5, slow_factor=1.11, placement=0.01):
    """p10s of visits: placement and the host's speed change from visit to visit, noise only adds."""
    slow = np.where(rng.random(visits) < slow_share, slow_factor, 1.0)
    return TRUE_MS * (1.0 + rng.exponential(placement, visits)) * slow


def test_p10_of_a_visit_ignores_the_right_tail():
    calls_ms = np.full(50, 0.7)
    calls_ms[::3] = 5.0
    assert stats.visit_quantiles_ms(calls_ms)[0] == pytest.approx(0.7)


def test_floor_finds_the_truth_where_the_median_is_a_coin_toss():
    rng = np.random.default_rng(1)
    runs = [noisy_visits(rng, 36) for _ in range(200)]
    floors = np.array([stats.floor_ms(run) for run in runs]) / TRUE_MS - 1
    medians = np.array([np.median(run) for run in runs]) / TRUE_MS - 1
    assert np.percentile(floors, 95) < 0.01
    assert np.percentile(medians, 95) > 0.05


def test_floor_does_not_sink_as_visits_are_added():
    """The reason for a share of the visits and not a number of them."""
    rng = np.random.default_rng(2)
    few = np.mean([stats.floor_ms(noisy_visits(rng, 24, slow_share=0)) for _ in range(300)])
    many = np.mean([stats.floor_ms(noisy_visits(rng, 120, slow_share=0)) for _ in range(300)])
    assert abs(few / many - 1) < 0.0005


def test_one_lucky_reading_does_not_set_a_row():
    visits = np.full(24, 1.0)
    visits[5] = 0.9
    assert stats.floor_ms(visits) > 0.98


@pytest.mark.parametrize("empty", [[], np.array([])])
def test_floor_of_nothing_is_an_error(empty):
    with pytest.raises(ValueError, match="at least one visit"):
        stats.floor_ms(empty)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=60), st.floats(0.01, 100))
def test_floor_lies_between_lowest_and_median_and_scales(values, factor):
    floor = stats.floor_ms(values)
    assert min(values) * (1 - 1e-9) <= floor
    assert floor <= np.mean(values) * (1 + 1e-9)
    assert stats.floor_ms(np.array(values) * factor) == pytest.approx(floor * factor)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=60), st.randoms())
def test_floor_ignores_the_order_of_visits(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert stats.floor_ms(shuffled) == pytest.approx(stats.floor_ms(values))


def test_halves_gap_is_small_for_a_settled_row_and_large_where_only_some_rounds_were_fast():
    rng = np.random.default_rng(3)
    rounds = np.repeat(np.arange(20), 3)
    assert stats.halves_gap(noisy_visits(rng, 60, slow_share=0.0), rounds) < 0.01
    lonely = np.where(rounds % 2 == 0, 1.0, 1.11)
    assert stats.halves_gap(lonely, rounds) == pytest.approx(np.log(1.11))


def test_halves_gap_wants_three_visits_a_half():
    assert stats.halves_gap([1.0] * 5, [0, 0, 0, 1, 1]) == float("inf")
    assert stats.halves_gap([1.0] * 6, [0, 0, 0, 1, 1, 1]) == 0.0


def test_halves_gap_does_not_compare_processes():
    """Two processes that take turns: every other visit is one process, not half of the rounds."""
    rounds = np.repeat(np.arange(12), 2)
    assert stats.halves_gap(np.tile([1.0, 1.05], 12), rounds) == pytest.approx(0.0)


def test_processes_gap_compares_the_lowest_processes_only():
    p10_ms = [1.0] * 4 + [1.005] * 4 + [1.5] * 4
    process = [0] * 4 + [1] * 4 + [2] * 4
    assert stats.processes_gap(p10_ms, process, 2) == pytest.approx(0.005)
    assert stats.processes_gap(p10_ms, process, 3) == pytest.approx(0.5)
    assert stats.processes_gap(p10_ms, process, 4) == float("inf")


def test_visits_that_lost_the_core_are_not_clean():
    clean = stats.clean_visits([0.999, 0.9, None], [None, None, None], [None, None, None])
    assert clean.tolist() == [True, False, True]


def test_visits_in_the_slow_mode_of_their_process_are_not_clean():
    sentinel = [0.100, 0.105, 0.112, 0.120, None, 0.2]
    floor = [0.100, 0.100, 0.100, 0.120, 0.120, None]
    clean = stats.clean_visits([1.0] * 6, sentinel, floor)
    assert clean.tolist() == [True, True, False, True, True, True]


def test_process_with_too_few_visits_does_not_count_as_one_that_agrees():
    p10_ms, process = [1.0] * 4 + [1.0] * 2, [0] * 4 + [1] * 2
    assert stats.processes_gap(p10_ms, process, 2) == float("inf")


def test_speed_spread_is_that_of_the_sentinel():
    rng = np.random.default_rng(4)
    sentinel = (0.04 * np.exp(rng.normal(0, 0.01, 400))).tolist()
    assert stats.speed_spread(sentinel) == pytest.approx(0.01, rel=0.2)
    assert stats.speed_spread([None, None]) == 0.0


def test_interval_holds_another_builds_value_about_nine_times_in_ten():
    """Placement noise alone, no drift: pairs of independent builds of the same op."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(600):
        one = stats.estimate(noisy_visits(rng, 36, slow_share=0.0))
        two = stats.estimate(noisy_visits(rng, 36, slow_share=0.0))
        held += one.low_ms <= two.latency_ms <= one.high_ms
    assert 0.85 <= held / 600 <= 1.0


@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=40))
def test_interval_contains_its_estimate_and_is_never_empty(values):
    made = stats.estimate(values)
    assert made.low_ms < made.latency_ms < made.high_ms
    assert made.relative_half_width >= stats.SMALLEST_HALF_WIDTH * (1 - 1e-6)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=5))
def test_interval_stays_above_zero_however_far_the_visits_lie_apart(values):
    """Ctrl-C after two visits of 1.0 and 1.7 ms once gave a negative end, which no table accepts."""
    assert stats.estimate(values).low_ms > 0
