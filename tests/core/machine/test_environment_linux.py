"""Identity and conditions of made-up Linux machines."""

from __future__ import annotations

import pytest

from hwprof.environment import Environment
from hwprof.machine import linux
from hwprof.machine.fields import CONDITIONS, IDENTITY, filled
from hwprof.machine.files import format_core_list, parse_core_list

CPU = "sys/devices/system/cpu"


def test_intel_laptop(machine):
    told = linux.identity(tuple(range(8)), machine("intel_laptop"))
    assert told == {
        "device": "Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz",
        "vendor": "GenuineIntel",
        "family": 6,
        "model": 142,
        "stepping": 10,
        "instruction_sets": ["avx", "avx2", "bmi2", "f16c", "fma", "sse4_1", "sse4_2", "ssse3"],
        "logical_cores": 8,
        "physical_cores": 4,
        "core_kinds": None,
        "cache_l1_bytes": 32 << 10,
        "cache_l2_bytes": 256 << 10,
        "cache_l3_bytes": 8 << 20,
        "governor_class": "dynamic",
        "cpu_limit": None,
        "virtualised": False,
    }


def test_intel_laptop_conditions(machine):
    told = linux.conditions((0, 1), machine("intel_laptop"))
    assert told == {
        "microcode": "0xf4",
        "load_average": [0.42, 0.30, 0.25],
        "frequency_now_mhz": 900.0,
        "frequency_min_mhz": 400.0,
        "frequency_max_mhz": 4000.0,
        "governor": "powersave",
        "frequency_driver": "intel_pstate",
        "energy_preference": "balance_power",
        "turbo": True,
        "smt": True,
        "temperature_c": 51.5,
        "throttle_count": 101,
        "steal_share_since_boot": None,
        "memory_total_bytes": 16_000_000 * 1024,
        "memory_available_bytes": 8_000_000 * 1024,
        "swap_used_bytes": 500_000 * 1024,
        "transparent_huge_pages": "madvise",
        "clock_source": "tsc",
        "on_battery": True,
    }


def test_amd_server(machine):
    files = machine("amd_server")
    told, now = linux.identity((0,), files), linux.conditions((0,), files)
    assert told["instruction_sets"] == [
        "avx", "avx2", "avx512_bf16", "avx512_vnni", "avx512f", "f16c", "fma", "sse4_2",
    ]  # fmt: skip
    assert (told["governor_class"], now["turbo"], now["smt"]) == ("performance", False, False)
    assert (told["logical_cores"], told["physical_cores"]) == (8, 8)
    assert (now["temperature_c"], now["on_battery"]) == (44.125, False)
    assert now["throttle_count"] is None


def test_arm_board_keeps_numbers_of_its_kinds_of_cores(machine):
    told = linux.identity(tuple(range(6)), machine("arm_board"))
    assert told["device"] == "Pine64 RockPro64 v2.1"
    assert told["core_kinds"] == ["0x41:0xd03", "0x41:0xd08"]
    assert told["instruction_sets"] == ["asimd"]
    assert (told["cache_l1_bytes"], told["cache_l2_bytes"]) == (48 << 10, 1 << 20)
    assert told["cache_l3_bytes"] is None
    assert told["governor_class"] == "dynamic"
    assert told["virtualised"] is None


def test_pinning_to_one_kind_of_core_is_another_identity_but_pinning_among_equals_is_not(machine):
    board = machine("arm_board")
    everywhere, big = linux.identity(tuple(range(6)), board), linux.identity((4, 5), board)
    assert big["core_kinds"] == ["0x41:0xd08"]
    assert Environment(everywhere, {}).environment_id != Environment(big, {}).environment_id
    assert linux.identity((4,), board) == big


def test_pinning_on_a_uniform_machine_is_no_identity(machine):
    server = machine("amd_server")
    assert linux.identity((3,), server) == linux.identity(tuple(range(8)), server)


def test_intel_hybrid_kinds(machine):
    files = machine(
        "intel_laptop",
        {"sys/devices/cpu_core/cpus": "0-3\n", "sys/devices/cpu_atom/cpus": "4-7\n"},
    )
    assert linux.identity(tuple(range(8)), files)["core_kinds"] == ["efficiency", "performance"]
    assert linux.identity((4, 6), files)["core_kinds"] == ["efficiency"]


def test_container_with_a_quota_and_a_core_set(machine):
    told = linux.identity((2, 3, 4, 5), machine("container"))
    assert told["cpu_limit"] == 1.5
    assert (told["logical_cores"], told["physical_cores"]) == (4, 4)


def test_the_tightest_quota_of_the_parents_counts(machine):
    files = machine(
        "amd_server",
        {
            "proc/self/cgroup": "0::/user.slice/app.service\n",
            "sys/fs/cgroup/user.slice/app.service/cpu.max": "max 100000",
            "sys/fs/cgroup/user.slice/cpu.max": "50000 100000",
        },
    )
    assert linux.identity((0,), files)["cpu_limit"] == 0.5


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpuacct,cpu", "cpu"])
@pytest.mark.parametrize("folder", ["", "/docker/abc"])
def test_cgroup_v1_quota_inside_and_outside_of_the_container(machine, mount, folder):
    files = machine(
        "amd_server",
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n",
            f"sys/fs/cgroup/{mount}{folder}/cpu.cfs_quota_us": "300000",
            f"sys/fs/cgroup/{mount}{folder}/cpu.cfs_period_us": "100000",
            f"sys/fs/cgroup/cpuset{folder}/cpuset.cpus": "0-2",
        },
    )
    told = linux.identity((0,), files)
    assert (told["cpu_limit"], told["logical_cores"]) == (3.0, 3)


@pytest.mark.parametrize("quota", ["max 100000", "", "x y", "100 0"])
def test_no_quota_is_null(machine, quota):
    files = machine("container", {"sys/fs/cgroup/cpu.max": quota})
    assert linux.identity((2,), files)["cpu_limit"] is None


def test_cgroup_v1_minus_one_is_no_quota(machine):
    files = machine(
        "amd_server",
        {
            "proc/self/cgroup": "1:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert linux.identity((0,), files)["cpu_limit"] is None


def test_virtual_machine_without_cpufreq(machine):
    files = machine("virtual_machine")
    told, now = linux.identity((0, 1), files), linux.conditions((0, 1), files)
    assert (told["virtualised"], told["governor_class"], told["stepping"]) == (True, "none", None)
    assert told["instruction_sets"] == [
        "amx_bf16",
        "amx_int8",
        "amx_tile",
        "avx2",
        "avx512f",
        "avx_vnni",
    ]
    assert now["frequency_now_mhz"] == 2100.0
    assert [
        now[n] for n in ("frequency_max_mhz", "governor", "turbo", "temperature_c", "on_battery")
    ] == [None] * 5


def test_arm_guest_is_recognised_by_its_firmware(machine):
    assert linux.identity((0,), machine("arm_board", {"sys/class/dmi/id/sys_vendor": "QEMU"}))[
        "virtualised"
    ]
    assert linux.identity(
        (0,), machine("arm_board", {"proc/device-tree/compatible": "linux,dummy-virt\0"})
    )["virtualised"]


def test_nothing_readable_is_all_null_and_never_zero(machine):
    files = machine("nothing")
    assert filled(IDENTITY, linux.identity((0,), files)) == dict.fromkeys(IDENTITY)
    assert filled(CONDITIONS, linux.conditions((0,), files)) == dict.fromkeys(CONDITIONS)


CONDITION_FILES = {
    "proc/loadavg": "9.00 8.00 7.00 1/2 3",
    "proc/meminfo": "MemTotal: 1 kB\n",
    "sys/class/thermal/thermal_zone1/temp": "90000",
    "sys/class/power_supply/AC/online": "1",
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
    f"{CPU}/intel_pstate/no_turbo": "1",
    f"{CPU}/smt/active": "0",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "3900000",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "5000000",
    f"{CPU}/cpu0/cpufreq/energy_performance_preference": "performance",
    f"{CPU}/cpu3/thermal_throttle/core_throttle_count": "77",
    "proc/stat": "cpu0 1 2 3 4 5 6 7 8 9 10\n",
}


@pytest.mark.parametrize("path", CONDITION_FILES)
def test_a_file_behind_a_condition_changes_conditions_and_not_identity(machine, path):
    cores = tuple(range(8))
    files = machine("intel_laptop")
    identity, conditions = linux.identity(cores, files), linux.conditions(cores, files)
    files = machine("intel_laptop", {path: CONDITION_FILES[path]})
    assert linux.identity(cores, files) == identity
    assert linux.conditions(cores, files) != conditions


IDENTITY_FILES = {
    f"{CPU}/online": ("0-3", {"logical_cores", "physical_cores"}),
    f"{CPU}/cpu0/cache/index2/size": ("512K", {"cache_l2_bytes"}),
    "sys/fs/cgroup/cpu.max": ("200000 100000", {"cpu_limit"}),
    "proc/device-tree/model": ("another board", {"device"}),
    "sys/devices/cpu_core/cpus": ("0-7", {"core_kinds"}),
}


@pytest.mark.parametrize("path", IDENTITY_FILES)
def test_a_file_behind_the_identity_changes_just_its_fields(machine, path):
    cores = tuple(range(6))
    content, fields = IDENTITY_FILES[path]
    group = {"proc/self/cgroup": "0::/"}
    before = Environment(linux.identity(cores, machine("amd_server", group)), {})
    after = Environment(linux.identity(cores, machine("amd_server", {**group, path: content})), {})
    assert {field for field, _, _ in before.differences(after)} == fields


@pytest.mark.parametrize(
    ("governor", "driver", "group"),
    [
        ("performance", "intel_pstate", "performance"),
        ("powersave", "intel_pstate", "dynamic"),
        ("powersave", "amd-pstate-epp", "dynamic"),
        ("powersave", "acpi-cpufreq", "powersave"),
        ("ondemand", "acpi-cpufreq", "dynamic"),
        ("userspace", "acpi-cpufreq", "userspace"),
    ],
)
def test_governor_class_depends_on_what_the_driver_means_by_it(machine, governor, driver, group):
    changes = {}
    for core in range(8):
        changes[f"{CPU}/cpu{core}/cpufreq/scaling_governor"] = governor
        changes[f"{CPU}/cpu{core}/cpufreq/scaling_driver"] = driver
    assert linux.identity((0,), machine("amd_server", changes))["governor_class"] == group


def test_cores_with_different_governors_are_named_together(machine):
    files = machine("amd_server", {f"{CPU}/cpu3/cpufreq/scaling_governor": "schedutil"})
    assert linux.identity((0,), files)["governor_class"] == "dynamic+performance"


def test_per_core_boost_file_of_amd_pstate(machine):
    files = machine("amd_server", {f"{CPU}/cpufreq/boost": None, f"{CPU}/cpu1/cpufreq/boost": "1"})
    assert linux.conditions((1,), files)["turbo"] is True
    assert linux.conditions((0,), files)["turbo"] is None


def test_steal_share_since_boot(machine):
    stat = "cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 10 0 10 70 0 0 0 10 0 0\ncpu1 0 0 0 100 0 0 0 0 0 0\nintr 5\n"
    assert linux.conditions((0,), machine("virtual_machine", {"proc/stat": stat}))[
        "steal_share_since_boot"
    ] == pytest.approx(0.05)


def test_risc_v_names_its_vector_extension_in_one_word(machine):
    info = "processor\t: 0\nisa\t: rv64imafdcv_zba_zvfh_zfh\nuarch\t: thead,c910\n"
    told = linux.identity((0,), machine("nothing", {"proc/cpuinfo": info}))
    assert told["instruction_sets"] == ["v", "zfh", "zvfh"]
    assert told["device"] == "thead,c910"


@pytest.mark.parametrize(
    ("mains", "battery", "on_battery"),
    [
        ("0", "Discharging", True),
        ("1", "Discharging", False),  # a weak charger: still no battery policy
        ("1", "Full", False),
        ("0", "Charging", False),  # through a port that is not listed
        ("0", "Unknown", None),
    ],
)
def test_battery_power(machine, mains, battery, on_battery):
    supply = "sys/class/power_supply"
    files = machine("intel_laptop", {f"{supply}/AC/online": mains, f"{supply}/BAT0/status": battery})
    assert linux.conditions((0,), files)["on_battery"] is on_battery


def test_a_mouse_battery_is_no_laptop(machine):
    files = machine(
        "amd_server",
        {
            "sys/class/power_supply/hidpp/type": "Battery",
            "sys/class/power_supply/hidpp/scope": "Device",
            "sys/class/power_supply/hidpp/status": "Discharging",
        },
    )
    assert linux.conditions((0,), files)["on_battery"] is False


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3,8", (0, 1, 2, 3, 8)), ("0", (0,)), ("", ()), ("x", ()), ("3,1-2\n", (1, 2, 3)), ("1-x", ())],
)
def test_core_lists(text, cores):
    assert parse_core_list(text) == cores
    assert parse_core_list(format_core_list(cores)) == cores
