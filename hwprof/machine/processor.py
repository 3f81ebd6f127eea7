"""Linux: which processor this is, its cores and its caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwprof.machine.files import SystemFiles

CPU = "sys/devices/system/cpu"

# Instruction sets that change which kernel a runtime picks, by the name that /proc/cpuinfo gives the
# list: x86, Arm, RISC-V. The other hundred flags come and go with kernel versions and change no latency.
SPEED_FLAGS = {
    "flags": ("ssse3", "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "bmi2"),
    "Features": (
        "neon", "vfpv4", "asimd", "asimdhp", "asimddp", "asimdfhm", "fphp", "fcma", "i8mm", "bf16",
    ),
    "isa": ("v",),
}  # fmt: skip
SPEED_PREFIXES = {
    "flags": ("avx512", "avx_", "avx10", "amx_"),
    "Features": ("sve", "sme"),
    "isa": ("zv", "zfh"),
}

# Names for display only: identity holds the numbers, so that a longer list changes no environment_id.
ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710", "0xd48": "Cortex-X2",
    "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2",
}  # fmt: skip


def processor_blocks(files: SystemFiles) -> list[dict[str, str]]:
    """/proc/cpuinfo, one dict per paragraph."""
    blocks: list[dict[str, str]] = [{}]
    for line in (files.text("proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            blocks[-1][name.strip()] = " ".join(value.split())
        elif blocks[-1]:
            blocks.append({})
    return [block for block in blocks if block]


def model_fields(files: SystemFiles, blocks: Iterable[Mapping[str, str]]) -> dict[str, object]:
    """device, vendor, family, model, stepping. Arm tells the last two per core: see `core_kinds`."""
    first: dict[str, str] = {}
    for block in blocks:
        first = {**block, **first}
    board = files.text("proc/device-tree/model")
    device = board or first.get("model name") or first.get("Model") or first.get("Hardware")
    return {
        "device": device or first.get("cpu") or first.get("uarch"),
        "vendor": first.get("vendor_id") or first.get("CPU implementer"),
        "family": _integer(first.get("cpu family") or first.get("CPU architecture")),
        "model": _integer(first.get("model")),
        "stepping": _integer(first.get("stepping")),
    }


def speed_flags(blocks: Iterable[Mapping[str, str]]) -> list[str] | None:
    """Sorted instruction-set flags that matter to speed and that every core has; None if not told."""
    per_core = [
        {flag for flag in _flags(block, name) if flag in exact or flag.startswith(SPEED_PREFIXES[name])}
        for block in blocks
        for name, exact in SPEED_FLAGS.items()
        if name in block
    ]
    return sorted(set.intersection(*per_core)) if per_core else None


def online_cores(files: SystemFiles, blocks: Iterable[Mapping[str, str]]) -> tuple[int, ...]:
    listed = files.cores(f"{CPU}/online")
    numbers = (_integer(block.get("processor")) for block in blocks)
    return listed or tuple(sorted(n for n in numbers if n is not None))


def core_kinds(files: SystemFiles, blocks: Iterable[Mapping[str, str]]) -> dict[int, str]:
    """Core number to kind: performance, efficiency, low-power (Intel), or Arm's `implementer:part`.

    Empty where the system does not tell kinds of cores apart.
    """
    kinds: dict[int, str] = {}
    for folder, kind in (
        ("cpu_core", "performance"),
        ("cpu_atom", "efficiency"),
        ("cpu_lowpower", "low-power"),
    ):
        kinds.update(dict.fromkeys(files.cores(f"sys/devices/{folder}/cpus"), kind))
    for block in blocks:
        number = _integer(block.get("processor"))
        if number is not None and "CPU part" in block:
            kinds[number] = f"{block.get('CPU implementer')}:{block['CPU part']}"
    return kinds


def kind_name(kind: str) -> str:
    """A kind for people: Cortex-A72 for 0x41:0xd08."""
    implementer, _, part = kind.partition(":")
    return ARM_PARTS.get(part, kind) if implementer == "0x41" else kind


def physical_cores(files: SystemFiles, cores: Iterable[int]) -> tuple[tuple[int, ...], ...] | None:
    """The given cores grouped by the physical core they share; None if the system does not tell."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for core in cores:
        topology = f"{CPU}/cpu{core}/topology"
        siblings = files.cores(f"{topology}/core_cpus_list")
        siblings = siblings or files.cores(f"{topology}/thread_siblings_list")
        if not siblings:
            return None
        groups.setdefault(siblings, []).append(core)
    return tuple(tuple(group) for group in groups.values()) or None


def cache_bytes(files: SystemFiles, cores: Iterable[int]) -> dict[int, int]:
    """Level to bytes of one data or unified cache, the largest that any of the given cores has."""
    largest: dict[int, int] = {}
    for core in cores:
        folder = f"{CPU}/cpu{core}/cache"
        for index in files.names(folder):
            if files.text(f"{folder}/{index}/type") not in ("Data", "Unified"):
                continue
            level = files.integer(f"{folder}/{index}/level")
            size = _size_bytes(files.text(f"{folder}/{index}/size"))
            if level and size:
                largest[level] = max(size, largest.get(level, 0))
    return dict(sorted(largest.items()))


def one_core_per_kind(cores: Iterable[int], kinds: Mapping[int, str]) -> tuple[int, ...]:
    """Enough cores to see every kind: reading the files of all of 256 cores takes long."""
    first: dict[str | None, int] = {}
    for core in cores:
        first.setdefault(kinds.get(core), core)
    return tuple(first.values())


def _flags(block: Mapping[str, str], name: str) -> set[str]:
    words = block[name].replace("_", " ").split() if name == "isa" else block[name].split()
    if name == "isa" and words:
        # RISC-V writes its one-letter extensions in one word: rv64imafdcv.
        words += words[0][4:]
    return set(words)


def _size_bytes(text: str | None) -> int | None:
    """`48K` or `32M` in bytes."""
    if not text:
        return None
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1].upper())
    number = _integer(text[:-1] if unit else text)
    return None if number is None else number * (unit or 1)


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
