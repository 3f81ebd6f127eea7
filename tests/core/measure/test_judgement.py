"""When a row has enough visits, and what state it ends in."""

import pytest

from hwprof.measure import judgement
from hwprof.measure.judgement import RecordedVisit, sentinel_floors
from hwprof.measure.messages import Visit
from hwprof.measure.protocol import EFFORTS, Protocol, protocol

PROTOCOL = Protocol(processes=2, agreeing=2, rounds=8, least_rounds=4)


def disagreement(protocol, made, dense):
    return judgement.disagreement(protocol, made, dense, sentinel_floors(made))


def judge(protocol, made, dense, stopped=""):
    return judgement.judge(protocol, made, dense, sentinel_floors(made), stopped)


def visits(*p10_ms_of_processes, cpu_share=1.0, dense_ms=0.04):
    """Recorded visits, the processes taking turns round by round."""
    made = []
    for number, values in enumerate(zip(*p10_ms_of_processes, strict=True)):
        for process, ms in enumerate(values):
            visit = Visit(
                (round(ms * 1e6),) * 5, 1, 1.0, 8.0, cpu_share, 0, dense_ms, 0.04, 1 << 20, 0.0
            )
            made.append(RecordedVisit(process, number, 1, visit))
    return made


def test_visits_and_processes_that_agree_converge():
    made = visits([1.0, 1.001, 1.002, 1.0], [1.0, 1.002, 1.001, 1.0])
    assert disagreement(PROTOCOL, made, dense=True) == ""
    verdict = judge(PROTOCOL, made, dense=True)
    assert (verdict.state, verdict.reason) == ("converged", "visits and processes agree within 1.0%")


def test_processes_apart_are_named_and_not_converged():
    made = visits([1.0] * 6, [1.02] * 6)
    assert "lowest processes lie 2.0% apart" in disagreement(PROTOCOL, made, dense=True)
    assert judge(PROTOCOL, made, dense=True).state == "budget"


def test_wide_disagreement_is_unstable():
    made = visits([1.0, 1.3, 1.6, 1.9, 2.2, 2.5], [1.5, 2.0, 1.2, 1.9, 2.8, 2.6])
    assert judge(PROTOCOL, made, dense=True).state == "unstable"


def test_row_without_enough_clean_visits_is_unstable_even_if_they_agree():
    made = visits([1.0] * 4, [1.0] * 4, cpu_share=0.8)
    verdict = judge(PROTOCOL, made, dense=True)
    assert verdict.state == "unstable"
    assert "only 0 clean visits of 8" in verdict.reason


def test_row_that_was_cut_short_is_not_called_converged():
    made = visits([1.0] * 4, [1.0] * 4)
    verdict = judge(PROTOCOL, made, dense=True, stopped="interrupted")
    assert verdict.state == "budget"
    assert verdict.reason.startswith("interrupted")


def test_third_process_with_unlucky_placement_does_not_keep_a_pooled_row_from_converging():
    made = visits([1.0] * 4, [1.001] * 4, [1.05] * 4)
    assert disagreement(PROTOCOL, made, dense=True) == ""


def test_slow_visits_are_left_out_of_the_estimate():
    slow = visits([2.0] * 4, [2.0] * 4, dense_ms=0.08)
    fast = visits([1.0] * 4, [1.0] * 4, dense_ms=0.04)
    assert judge(PROTOCOL, slow + fast, dense=True).estimate.latency_ms == pytest.approx(1.0)


@pytest.mark.parametrize("effort", EFFORTS)
def test_efforts_cost_more_in_order_and_precision_can_be_replaced(effort):
    assert protocol(effort, 0.05).rel_precision == 0.05
    costs = [EFFORTS[name].most_visits for name in ("fast", "normal", "rigorous")]
    assert costs == sorted(costs)


@pytest.mark.parametrize("row_ms", [1.0, 100.0, 500.0, 1e9])
def test_protocol_within_a_budget_never_grows(row_ms):
    normal = EFFORTS["normal"]
    fitted = normal.within(row_ms)
    assert fitted.most_visits <= normal.most_visits
    assert fitted.least_rounds <= fitted.rounds
    assert fitted.rounds >= 2


def test_row_seen_only_in_a_slow_spell_of_its_processes_is_not_clean():
    """The processes saw a faster machine at other rows; by its own visits alone the row looks fine."""
    row = visits([1.1] * 4, [1.1] * 4, dense_ms=0.044)
    others = visits([5.0] * 8, [5.0] * 8, dense_ms=0.040)
    floors = sentinel_floors(row + others)
    assert judgement.disagreement(PROTOCOL, row, True, floors) == "only 0 clean visits of 8"
    assert judgement.judge(PROTOCOL, row, True, floors).state == "unstable"


@pytest.mark.parametrize("row_ms", range(20, 2000, 20))
def test_rounds_within_a_budget_never_exceed_the_protocols(row_ms):
    fitted = EFFORTS["normal"].within(row_ms)
    assert fitted.rounds <= EFFORTS["normal"].rounds
    assert 2 <= fitted.least_rounds <= fitted.rounds
