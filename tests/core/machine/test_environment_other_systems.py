"""macOS and Windows, from recorded text."""

from __future__ import annotations

import pytest

from hwprof.machine import darwin, windows
from hwprof.machine.fields import CONDITIONS, IDENTITY, filled

APPLE = """\
hw.ncpu: 8
hw.logicalcpu: 8
hw.physicalcpu: 8
hw.memsize: 17179869184
hw.nperflevels: 2
hw.perflevel0.name: Performance
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 12582912
hw.perflevel1.name: Efficiency
hw.perflevel1.l1dcachesize: 65536
hw.perflevel1.l2cachesize: 4194304
hw.l1dcachesize: 65536
hw.optional.arm.FEAT_BF16: 0
hw.optional.arm.FEAT_DotProd: 1
hw.optional.neon: 1
machdep.cpu.brand_string: Apple M1
vm.swapusage: total = 2048.00M  used = 512.50M  free = 1535.50M  (encrypted)
kern.hv_vmm_present: 0
"""


def test_apple_silicon():
    told = filled(IDENTITY, darwin.identity(darwin.parse_sysctl(APPLE)))
    known = {name: value for name, value in told.items() if value is not None}
    assert known == {
        "device": "Apple M1",
        "instruction_sets": ["FEAT_DotProd", "neon"],
        "logical_cores": 8,
        "physical_cores": 8,
        "core_kinds": ["efficiency", "performance"],
        "cache_l1_bytes": 131072,
        "cache_l2_bytes": 12582912,
        "virtualised": False,
    }


def test_mac_conditions():
    told = filled(CONDITIONS, darwin.conditions(darwin.parse_sysctl(APPLE), [1.0, 2.0, 3.0]))
    assert told["memory_total_bytes"] == 16 << 30
    assert told["swap_used_bytes"] == int(512.5 * (1 << 20))
    assert told["load_average"] == [1.0, 2.0, 3.0]
    assert told["frequency_now_mhz"] is None


def test_a_mac_without_sysctl_is_all_null():
    assert filled(IDENTITY, darwin.identity({})) == dict.fromkeys(IDENTITY)


def test_windows_processor_identifier():
    told = windows.parse_identifier("Intel64 Family 6 Model 142 Stepping 10, GenuineIntel")
    assert told == {"vendor": "GenuineIntel", "family": 6, "model": 142, "stepping": 10}


@pytest.mark.parametrize("text", ["", "ARMv8 (64-bit)", "Intel64 Family"])
def test_windows_identifier_of_another_form_is_null(text):
    told = windows.parse_identifier(text)
    assert [told[name] for name in ("family", "model", "stepping")] == [None] * 3


def test_a_reader_cannot_invent_a_field():
    with pytest.raises(AssertionError, match="not a field"):
        filled(IDENTITY, {"colour": "grey"})
