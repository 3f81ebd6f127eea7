"""Gathering facts from made-up machines, with a made-up sleep and noise test."""

from __future__ import annotations

import pytest

from hwprof.doctor import examine, gather_facts
from hwprof.machine.facts import Spread, linux_facts
from hwprof.machine.load import read_activity

OWN = 100
SPREAD = Spread(2.0, 2.01)


def stat(*busy_steal: tuple[int, int], ticks: int) -> str:
    """/proc/stat with (busy, steal) ticks per core of `ticks` in all."""
    rows = [f"cpu{n} {b} 0 0 {ticks - b - s} 0 0 0 {s} 0 0" for n, (b, s) in enumerate(busy_steal)]
    return "\n".join(["cpu  1 1 1 1 1 1 1 1 1 1", *rows, "ctxt 5", ""])


def process(pid: int, name: str, ticks: int) -> str:
    return f"{pid} ({name}) R 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 0\n"


def facts_of(machine, name, before, after, cores, noise=lambda: SPREAD):
    """Facts where the tree turns from `before` into `after` during the sleep."""
    files = machine(name, before)
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        machine(name, {**before, **after})

    facts = linux_facts(files, cores, OWN, sleep, noise)
    assert slept == [0.5]
    return facts


def test_others_work_is_what_the_usable_cores_did_less_our_own(machine):
    before = {
        "proc/stat": stat((100, 0), (100, 0), (100, 0), ticks=1000),
        f"proc/{OWN}/stat": process(OWN, "hwprof", 40),
        "proc/7/stat": process(7, "make (all) job", 500),
        "proc/8/stat": process(8, "idle", 30),
    }
    after = {
        # Core 2 is not ours. Cores 0 and 1: 40 ticks, of which 10 are ours; 5 more were stolen.
        "proc/stat": stat((130, 5), (110, 0), (150, 0), ticks=1050),
        f"proc/{OWN}/stat": process(OWN, "hwprof", 50),
        "proc/7/stat": process(7, "make (all) job", 520),
        "proc/9/stat": process(9, "newcomer", 5),
    }
    seen = facts_of(machine, "virtual_machine", before, after, (0, 1)).neighbours
    assert seen is not None
    assert seen.busy_cores == pytest.approx(0.6)
    assert seen.steal_share == pytest.approx(0.05)
    assert [name for name, _ in seen.processes] == ["make (all) job", "newcomer"]
    assert [share for _, share in seen.processes] == pytest.approx([0.4, 0.1])


def test_a_machine_without_proc_stat_has_unknown_neighbours(machine):
    facts = facts_of(machine, "virtual_machine", {}, {}, (0, 1))
    assert facts.neighbours is None
    assert read_activity(machine("nothing"), (0,), OWN) is None


def test_a_sandbox_whose_ticks_stand_still_has_unknown_neighbours(machine):
    frozen = {"proc/stat": stat((0, 0), (0, 0), ticks=0)}
    assert facts_of(machine, "virtual_machine", frozen, {}, (0, 1)).neighbours is None


def test_throttling_during_the_look_is_told_from_throttling_before(machine):
    count = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    facts = facts_of(machine, "intel_laptop", {count: "3"}, {count: "5"}, (0,))
    assert facts.throttled == (105, 2)


def test_the_clock_is_read_after_the_noise_test(machine):
    path = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"

    def noise() -> Spread:
        machine("intel_laptop", {path: "3900000"})
        return SPREAD

    facts = facts_of(machine, "intel_laptop", {}, {}, (0,), noise)
    assert facts.clock is not None
    assert facts.clock.now_mhz == 3900.0


@pytest.mark.parametrize(
    ("name", "cores", "faults"),
    [
        ("intel_laptop", tuple(range(8)), {
            "governor", "turbo", "clock under load", "thermal throttling", "battery power",
            "SMT siblings", "swap in use",
        }),
        ("amd_server", tuple(range(8)), set()),
        ("arm_board", tuple(range(6)), {"governor", "clock under load", "kinds of cores"}),
        ("arm_board", (4, 5), {"governor", "clock under load"}),
        ("container", (2, 3, 4, 5), {"cpu limit"}),
        ("virtual_machine", (0, 1), {"virtual machine"}),
        ("virtual_machine", (1,), {"virtual machine", "affinity"}),
        ("nothing", (0, 1), set()),
    ],
)  # fmt: skip
def test_faults_of_made_up_machines(machine, name, cores, faults):
    findings = examine(facts_of(machine, name, {}, {}, cores))
    # The timer is the one of the machine that runs the tests.
    assert {f.name for f in findings if f.severity in ("bad", "warn")} - {"timer"} == faults


def test_this_machine_can_be_looked_at(monkeypatch):
    monkeypatch.setattr("hwprof.machine.facts.time.sleep", lambda seconds: None)
    monkeypatch.setattr("hwprof.machine.facts.WARM_MS", 1.0)
    monkeypatch.setattr("hwprof.machine.facts.NOISE_MS", 5.0)
    facts = gather_facts()
    assert set(facts.cores) <= set(facts.machine_cores)
    assert facts.timer_tick_ns > 0
    assert 0 < facts.noise.p10_ms <= facts.noise.p90_ms
    assert len(examine(facts)) > 10
