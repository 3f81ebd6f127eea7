"""Doctor's checks on injected facts: no clock, no machine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hwprof.doctor import CHECKS, Facts, Finding, examine, verdict
from hwprof.machine.facts import Spread
from hwprof.machine.frequency import Frequency, Turbo
from hwprof.machine.load import Memory, Neighbours

GIB = 1 << 30
CLOCK = Frequency("performance", "performance", "acpi-cpufreq", None, 3000.0, 1500.0, 3000.0)
NO_TURBO = Turbo(False, "/sys/devices/system/cpu/cpufreq/boost", 0)

QUIET = Facts(
    cores=(0, 1, 2, 3),
    machine_cores=(0, 1, 2, 3),
    timer_tick_ns=40,
    noise=Spread(2.0, 2.02),
    core_groups=((0,), (1,), (2,), (3,)),
    virtualised=False,
    neighbours=Neighbours(0.01, (), 0.0),
    load_1min=0.05,
    clock=CLOCK,
    turbo=NO_TURBO,
    throttled=(0, 0),
    clock_source="tsc",
    memory=Memory(16 * GIB, 12 * GIB, 0),
    on_battery=False,
    huge_pages="madvise",
)
UNREADABLE = Facts(cores=(0, 1), machine_cores=(0, 1), timer_tick_ns=40, noise=Spread(2.0, 2.02))


def look(name: str, **facts: object) -> Finding:
    (found,) = [f for f in examine(replace(QUIET, **facts)) if f.name == name]
    return found


def clock(**changes: object) -> Frequency:
    return replace(CLOCK, **changes)


CASES = [
    ("cores", {"machine_cores": (0,), "cores": (0,)}, "bad"),
    ("cores", {"machine_cores": (0, 1), "cores": (0, 1)}, "ok"),
    ("affinity", {"cores": (3,), "core_groups": ((3,),)}, "warn"),
    ("affinity", {"cores": (2, 3)}, "ok"),
    ("affinity", {"machine_cores": (0,), "cores": (0,)}, "ok"),
    ("cpu limit", {"cpu_limit": 0.5}, "bad"),
    ("cpu limit", {"cpu_limit": 1.0}, "warn"),
    ("cpu limit", {"cpu_limit": 1.99}, "warn"),
    ("cpu limit", {"cpu_limit": 2.0}, "ok"),
    ("busy neighbours", {"neighbours": Neighbours(0.09, (), 0.0)}, "ok"),
    ("busy neighbours", {"neighbours": Neighbours(0.10, (), 0.0)}, "warn"),
    ("busy neighbours", {"neighbours": Neighbours(2.1, (), 0.0)}, "bad"),
    ("busy neighbours", {"neighbours": Neighbours(3.5, (), 0.0)}, "bad"),
    ("busy neighbours", {"neighbours": Neighbours(0.2, (), 0.0), "cores": (0,)}, "bad"),
    ("load average", {"load_1min": 0.99}, "ok"),
    ("load average", {"load_1min": 1.0}, "warn"),
    ("load average", {"load_1min": 4.0}, "bad"),
    ("steal", {"neighbours": Neighbours(0.0, (), 0.009)}, "ok"),
    ("steal", {"neighbours": Neighbours(0.0, (), 0.01)}, "warn"),
    ("steal", {"neighbours": Neighbours(0.0, (), 0.05)}, "bad"),
    ("virtual machine", {"virtualised": True}, "warn"),
    ("governor", {"clock": clock(governor="schedutil", governor_class="dynamic")}, "warn"),
    ("governor", {"clock": clock(governor="powersave", governor_class="powersave")}, "warn"),
    ("governor", {"clock": clock(governor=None, governor_class="none")}, "ok"),
    ("turbo", {"turbo": replace(NO_TURBO, on=True)}, "warn"),
    ("clock under load", {"clock": clock(now_mhz=2400.0)}, "ok"),
    ("clock under load", {"clock": clock(now_mhz=2399.0)}, "warn"),
    ("clock under load", {"clock": clock(now_mhz=1499.0)}, "bad"),
    ("thermal throttling", {"throttled": (12, 0)}, "warn"),
    ("thermal throttling", {"throttled": (12, 1)}, "bad"),
    ("battery power", {"on_battery": True}, "warn"),
    ("SMT siblings", {"core_groups": ((0, 2), (1, 3))}, "warn"),
    ("kinds of cores", {"core_kinds": {0: "efficiency", 1: "efficiency", 2: "performance"}}, "bad"),
    ("kinds of cores", {"core_kinds": {0: "a", 1: "a", 2: "a", 3: "a", 4: "b"}}, "ok"),
    ("timer", {"timer_tick_ns": 1_000}, "ok"),
    ("timer", {"timer_tick_ns": 1_001}, "warn"),
    ("timer", {"timer_tick_ns": 15_625_000}, "bad"),
    ("free memory", {"memory": Memory(16 * GIB, GIB, 0)}, "ok"),
    ("free memory", {"memory": Memory(16 * GIB, GIB - 1, 0)}, "warn"),
    ("free memory", {"memory": Memory(16 * GIB, GIB // 8, 0)}, "bad"),
    ("swap in use", {"memory": Memory(16 * GIB, GIB, 64 << 20)}, "warn"),
    ("swap in use", {"memory": Memory(16 * GIB, GIB, (64 << 20) - 1)}, "ok"),
    ("noise self-test", {"noise": Spread(2.0, 2.1)}, "ok"),
    ("noise self-test", {"noise": Spread(2.0, 2.11)}, "warn"),
    ("noise self-test", {"noise": Spread(2.0, 2.41)}, "bad"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "facts", "severity"), CASES)
def test_threshold(name, facts, severity):
    assert look(name, **facts).severity == severity


def test_every_check_but_the_informational_one_can_find_fault():
    faulted = {name for name, _, severity in CASES if severity != "ok"}
    assert {finding.name for finding in examine(QUIET)} - faulted == {"transparent huge pages"}


def test_a_quiet_machine_gets_a_clean_bill():
    findings = examine(QUIET)
    assert len(findings) == len(CHECKS)
    assert {finding.severity for finding in findings} == {"ok"}
    assert verdict(findings) == "ok"


def test_what_cannot_be_read_is_unknown_and_no_fault():
    findings = examine(UNREADABLE)
    unknown = {f.name for f in findings if f.severity == "unknown"}
    assert unknown == {
        "busy neighbours", "load average", "steal", "virtual machine", "governor", "turbo",
        "clock under load", "thermal throttling", "battery power", "SMT siblings", "free memory",
        "swap in use", "transparent huge pages",
    }  # fmt: skip
    assert all(f.value is None for f in findings if f.severity == "unknown")
    assert verdict(findings) == "ok"


def test_the_worst_comes_first_and_decides():
    findings = examine(replace(QUIET, on_battery=True, machine_cores=(0,), cores=(0,), throttled=None))
    assert [f.severity for f in findings[:3]] == ["bad", "warn", "unknown"]
    assert verdict(findings) == "bad"
    assert verdict(findings[1:]) == "warn"


@pytest.mark.parametrize(("name", "facts", "severity"), [case for case in CASES if case[2] != "ok"])
def test_a_fault_is_one_line_with_measured_value_threshold_effect_and_remedy(name, facts, severity):
    found = look(name, **facts)
    assert found.effect
    assert found.remedy
    line = found.line()
    assert "\n" not in line
    assert all(part in line for part in (severity, name, found.measured, found.threshold, found.remedy))


def test_what_is_well_gets_no_advice():
    assert all(not f.effect and not f.remedy for f in examine(QUIET))


def test_findings_are_plain_json():
    assert json.loads(json.dumps([f.to_dict() for f in examine(QUIET)]))[0]["severity"] == "ok"


def test_busy_neighbours_are_named():
    found = look(
        "busy neighbours", neighbours=Neighbours(0.7, (("cc1plus", 0.5), ("kworker", 0.2)), 0.0)
    )
    assert "cc1plus 0.50, kworker 0.20" in found.measured


def test_the_remedy_for_turbo_is_the_switch_of_this_machine():
    intel = Turbo(True, "/sys/devices/system/cpu/intel_pstate/no_turbo", 1)
    assert (
        "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
        in look("turbo", turbo=intel).remedy
    )
    assert "echo 0 | sudo tee" in look("turbo", turbo=replace(NO_TURBO, on=True)).remedy


def test_the_remedy_for_siblings_names_one_thread_of_each_core():
    found = look("SMT siblings", core_groups=((0, 4), (1, 5), (2, 6), (3, 7)))
    assert "taskset -c 0-3 hwprof" in found.remedy


def test_the_remedy_for_siblings_is_accepted_by_the_checks():
    fine = examine(replace(QUIET, cores=(0, 2), core_groups=((0,), (2,))))
    assert {f.severity for f in fine} == {"ok"}


def test_the_remedy_for_mixed_cores_offers_each_kind_by_its_name():
    kinds = {0: "0x41:0xd03", 1: "0x41:0xd03", 2: "0x41:0xd08", 3: "0x41:0xd08"}
    assert look("kinds of cores", core_kinds=kinds).remedy.endswith(
        "taskset -c 0-1 (Cortex-A53) or taskset -c 2-3 (Cortex-A72)"
    )
