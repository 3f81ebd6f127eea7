"""What a device tells of itself is read as on the machine itself."""

from pathlib import Path

import pytest

from hwprof.environment import machine_identity
from hwprof.errors import LutError
from hwprof.machine.files import SystemFiles
from hwprof.machine.measuring import measuring_cores
from hwprof.machine.processor import CPU
from hwprof.offline.device import FACT_FILES, TakenFiles, device_environment
from hwprof.offline.plan import OfflinePlan
from hwprof.offline.runner import facts

CPUINFO = "".join(
    f"processor\t: {core}\nCPU implementer\t: 0x41\nFeatures\t: fp asimd asimddp i8mm\n"
    f"CPU part\t: {'0xd05' if core < 4 else '0xd44'}\n\n"
    for core in range(8)
)


@pytest.fixture
def plan(exported) -> OfflinePlan:
    return OfflinePlan.read(exported / "plan.json")[0]


@pytest.fixture
def phone(tmp_path) -> Path:
    """Root folder of a phone with four small and four large cores."""
    texts = {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": "MemTotal: 8000000 kB\n",
        "proc/self/cgroup": "4:cpu:/top-app\n0::/\n",
        "sys/fs/cgroup/cpu/top-app/cpu.cfs_quota_us": "400000\n",
        "sys/fs/cgroup/cpu/top-app/cpu.cfs_period_us": "100000\n",
        "sys/class/thermal/thermal_zone3/type": "cpu-big\n",
        "sys/class/thermal/thermal_zone3/temp": "41500\n",
        f"{CPU}/online": "0-7\n",
    }
    for core in range(8):
        texts[f"{CPU}/cpu{core}/cpufreq/scaling_governor"] = "schedutil\n"
        texts[f"{CPU}/cpu{core}/cpufreq/cpuinfo_max_freq"] = "1800000\n" if core < 4 else "2850000\n"
        texts[f"{CPU}/cpu{core}/cpu_capacity"] = "250\n" if core < 4 else "1024\n"
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def told(root: Path, **changes):
    """What run.py tells of a machine whose files lie under `root`."""
    here = facts.describe_device([], "2.3.0", [7])
    files = facts.read_files(str(root), list(FACT_FILES))
    phone = {"system": "Linux", "machine": "aarch64", "bits": 64, "affinity": list(range(8))}
    android = {"ro.product.manufacturer": "samsung", "ro.product.model": "SM-G991B",
               "ro.board.platform": "exynos2100"}  # fmt: skip
    return {**here, **phone, "properties": android, "files": files, **changes}


def test_phone_is_described_by_its_model_chip_and_cores(plan, phone):
    identity = device_environment(plan, told(phone), "").identity
    assert identity["device"] == "samsung SM-G991B (exynos2100)"
    assert identity["architecture"] == "aarch64"
    assert identity["core_kinds"] == ["0x41:0xd05", "0x41:0xd44"]
    assert identity["instruction_sets"] == ["asimd", "asimddp", "i8mm"]
    assert identity["logical_cores"] == 8
    assert identity["governor_class"] == "dynamic"
    assert identity["cpu_limit"] == 4.0
    assert identity["cache_l2_bytes"] is None
    assert (identity["runtime"], identity["runtime_version"]) == ("onnxruntime", "2.3.0")


def test_conditions_are_the_devices_own(plan, phone):
    conditions = device_environment(plan, told(phone), "").conditions
    assert conditions["frequency_max_mhz"] == 2850.0
    assert conditions["temperature_c"] == 41.5
    assert conditions["memory_total_bytes"] == 8_192_000_000
    assert conditions["measuring_cores"] == [7]
    assert conditions["android"]["ro.product.model"] == "SM-G991B"


def test_32_bit_python_on_a_64_bit_system_is_another_environment(plan, phone):
    wide, narrow = (device_environment(plan, told(phone, bits=bits), "") for bits in (64, 32))
    assert narrow.identity["architecture"] == "aarch64, 32-bit process"
    assert wide.environment_id != narrow.environment_id


def test_device_that_nothing_names_needs_a_name(plan, phone):
    with pytest.raises(LutError, match="--device NAME"):
        device_environment(plan, told(phone, properties={}), "")
    assert (
        device_environment(plan, told(phone, properties={}), "my board").identity["device"] == "my board"
    )


def test_other_systems_tell_what_the_standard_library_knows(plan, phone):
    identity = device_environment(
        plan, told(phone, system="Darwin", properties={}, processor="arm", cpu_count=8), ""
    ).identity
    assert (identity["device"], identity["logical_cores"]) == ("arm", 8)
    assert identity["instruction_sets"] is None


def test_this_machine_reads_the_same_through_carried_files(plan):
    here = facts.describe_device(list(FACT_FILES), "1", [0])
    identity = device_environment(plan, here, "").identity
    assert {name: identity[name] for name in machine_identity()} == machine_identity()


def test_carried_files_read_as_those_of_the_machine(phone):
    texts = facts.read_files(str(phone), list(FACT_FILES))
    carried, there = TakenFiles(texts=texts), SystemFiles(str(phone))
    for path in texts:
        assert carried.text(path) == there.text(path)
    assert carried.names("sys/class/thermal") == there.names("sys/class/thermal")
    assert carried.names(CPU) == there.names(CPU)
    assert carried.text("proc/nothing") is None


@pytest.mark.parametrize("threads", [1, 2, 4, 6, 8])
def test_cores_are_picked_as_hwprof_picks_them(phone, threads):
    cores = list(range(8))
    wanted = measuring_cores(cores, threads, SystemFiles(str(phone)))
    assert facts.measuring_cores(cores, threads, str(phone)) == list(wanted)


def test_device_is_the_same_unless_something_that_counts_changed(phone):
    before = told(phone)
    assert facts.difference(before, told(phone, time="later", measuring_cores=[3])) == ""
    assert "affinity" in facts.difference(before, told(phone, affinity=[0, 1]))


def changed(device, files):
    return {**device, "files": {**device["files"], **files}}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
        ("proc/cpuinfo", CPUINFO.replace("0xd44", "0xd4b")),
        ("proc/cpuinfo", CPUINFO.replace(" i8mm", "")),
        ("proc/cpuinfo", CPUINFO.replace("0x41", "0x51")),
        ("sys/fs/cgroup/cpu/top-app/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu/top-app/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
        ("sys/fs/cgroup/cpuset.cpus.effective", "0-3\n"),
        ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        (f"{CPU}/online", "0-6\n"),
        (f"{CPU}/cpu0/cpufreq/scaling_governor", "performance\n"),
        (f"{CPU}/cpu0/cache/index2/size", "256K\n"),
        (f"{CPU}/cpu0/topology/core_cpus_list", "1\n"),
    ],
)
def test_start_that_the_import_would_put_under_another_environment_is_another_device(
    plan, phone, path, text
):
    """A results.jsonl begun on a Pi 4 and gone on with on a Pi 5 could never be finished."""
    board = {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}
    for name, told_text in (("type", "Unified"), ("level", "2"), ("size", "512K")):
        board[f"{CPU}/cpu0/cache/index2/{name}"] = told_text
    for core in range(8):
        board[f"{CPU}/cpu{core}/topology/core_cpus_list"] = f"{core}"
    before = changed(told(phone, properties={}), board)
    after = changed(before, {path: text})
    first, second = (device_environment(plan, device, "") for device in (before, after))
    assert first.environment_id != second.environment_id
    assert facts.difference(before, after)


def test_what_moves_by_itself_does_not_end_a_measurement(plan, phone):
    before = told(phone)
    after = changed(before, {
        "proc/cpuinfo": CPUINFO.replace("processor", "BogoMIPS\t: 38.40\nprocessor", 1),
        "proc/meminfo": "MemTotal: 7999999 kB\n",
        "proc/loadavg": "7.00 6.00 5.00 1/2 3\n",
        "sys/class/thermal/thermal_zone3/temp": "68000\n",
        f"{CPU}/cpu7/cpufreq/scaling_cur_freq": "300000\n",
    })  # fmt: skip
    assert facts.difference(before, after) == ""
    first, second = (device_environment(plan, device, "") for device in (before, after))
    assert first.environment_id == second.environment_id


def test_another_login_with_the_same_limits_is_the_same_device(phone):
    before = told(phone)
    files = {
        path.replace("top-app", "session-4/top-app"): text.replace("/top-app", "/session-4/top-app")
        for path, text in before["files"].items()
    }
    assert facts.difference(before, {**before, "files": files}) == ""


def test_message_names_what_differs_and_not_what_is_the_same(phone):
    before = told(phone)
    after = changed(before, {"proc/cpuinfo": CPUINFO.replace("0xd44", "0xd4b")})
    assert facts.difference(before, after) == "cpuinfo CPU part was 0xd44, is 0xd4b"
