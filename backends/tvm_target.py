"""TVM targets: from a user's text to what TVM takes, checked as TVM itself does not.

TVM 0.27 no longer parses `llvm -mcpu=...`: it wants a dictionary, and only the old text is bearable on
a command line. It also takes an unknown CPU or feature for a generic one with a line on standard error,
and an unknown architecture in `-mtriple` ends in a segmentation fault. Here all three are refused.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hwprof.backends.backend import import_runtime
from hwprof.errors import BackendUnavailable

INSTALL = "pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1"
EXAMPLES = (
    "llvm, 'llvm -mcpu=znver4', 'llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a72', "
    "'cuda -arch=sm_90', raspberry-pi/4b-aarch64"
)
_LISTS = ("mattr", "keys", "libs")
_NAMES = ("mcpu", "mtriple", "arch", "mabi", "model")
# What a compiler of loops emits by itself. A virtual machine hides features like `pku` or `mwaitx` that
# the CPU's name promises and that no kernel uses; they must not make its own name unusable.
_EMITTED = ("adx", "amx", "avx", "bmi", "f16c", "fma", "gfni", "lzcnt", "movbe", "popcnt", "sse", "ssse")
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "i486": "i386", "i586": "i386", "i686": "i386"}


@dataclass(frozen=True)
class TvmTarget:
    """A target that TVM takes.

    Attributes:
        text: `KIND -NAME=VALUE ...`, everything that was detected or defaulted included.
        config: TVM's own JSON of it, with the host that prepares a GPU's kernels.
        detected: whether its CPU is this machine's because the text named none.
    """

    text: str
    config: str
    detected: bool

    @property
    def kind(self) -> str:
        return str(json.loads(self.config)["kind"])

    def native(self) -> Any:
        """A `tvm.target.Target`."""
        import tvm

        return tvm.target.Target(json.loads(self.config))


@lru_cache
def resolve_target(text: str, threads: int) -> TvmTarget:
    """Parse and check a target's text; `llvm` alone means this machine's CPU.

    Raises:
        BackendUnavailable: TVM cannot be imported, or knows no such target, CPU or feature.
    """
    tvm = import_runtime("tvm", INSTALL)
    given = _parse(text)
    detected = given["kind"] == "llvm" and not {"mtriple", "mcpu"} & set(given)
    if given["kind"] == "llvm":
        given = _with_host(given) if "mtriple" not in given else given
        given["num-cores"] = threads
    elif given["kind"] == "cuda" and "arch" not in given and not tvm.cuda(0).exist:
        raise _refused(text, "there is no GPU here to take the architecture from; add -arch=sm_NN")
    elif given["kind"] == "cuda" and not re.fullmatch(r"sm_\d{2,3}[af]?", given.get("arch", "sm_50")):
        raise _refused(text, f"{given['arch']!r} is no GPU architecture")
    else:
        given.setdefault("host", _with_host({"kind": "llvm"}))
    try:
        config = _plain_config(tvm.target.Target(given))
    except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
        raise _refused(text, _plain(error)) from None
    if config["kind"] == "llvm":
        _check_cpu(text, config)
    return TvmTarget(_spell(config), json.dumps(config, sort_keys=True), detected)


def why_not_here(target: TvmTarget) -> str:
    """Empty if code for the target runs on this machine, else what it needs."""
    import tvm

    if target.kind == "cuda":
        return "" if tvm.cuda(0).exist else "it needs an NVIDIA GPU and its driver, and none is here"
    if target.kind != "llvm":
        return f"hwprof runs {target.kind} code through RPC only"
    config = json.loads(target.config)
    ours, theirs = _host_triple(), config.get("mtriple", _host_triple())
    if not _same_system(ours, theirs):
        return f"it is for {theirs}, this machine is {ours}"
    lacking = _lacking(config)
    return f"this machine's CPU lacks {', '.join(lacking)}" if lacking else ""


def links_here(target: TvmTarget) -> bool:
    """Whether this machine's linker makes a library of the code (of a GPU's: of its host part)."""
    config = json.loads(target.config)
    triple = config.get("host", config).get("mtriple", _host_triple())
    return _same_system(triple, _host_triple())


def names_cuda(text: str) -> bool:
    """Whether a target's text means an NVIDIA GPU, told without importing TVM."""
    return bool(re.search(r'^\s*cuda\b|\bnvidia/|"kind"\s*:\s*"cuda"', text))


def _same_system(one: str, other: str) -> bool:
    return _architecture(one) == _architecture(other) and ("linux" in one) == ("linux" in other)


def _parse(text: str) -> dict[str, Any]:
    """A dictionary with `kind`, from a dictionary in JSON, a tag or `KIND -NAME=VALUE ...`."""
    import tvm

    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text)
        except json.JSONDecodeError as error:
            raise _refused(text, f"it is no JSON: {error}") from None
        if "kind" not in given and "tag" not in given:
            raise _refused(text, "the JSON has neither kind nor tag")
        return _expand_tag(text, given["tag"], given) if "tag" in given else given
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _refused(text, str(error)) from None
    if not words:
        raise _refused(text, "it is empty")
    given = {}
    for word in words[1:]:
        name, separator, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            raise _refused(text, f"{word!r} is not of the form -NAME=VALUE")
        given[name] = _value(name, value) if separator else True
    if words[0] in tvm.target.Target.list_kinds():
        return {"kind": words[0], **given}
    return _expand_tag(text, words[0], given)


def _expand_tag(text: str, tag: str, given: Mapping[str, Any]) -> dict[str, Any]:
    import tvm

    try:
        known = _plain_config(tvm.target.Target(tag))
    except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
        raise _refused(text, _plain(error)) from None
    return {**known, **{name: value for name, value in given.items() if name != "tag"}}


def _plain_config(target: Any) -> dict[str, Any]:
    """The target's JSON without what TVM derives from the rest, and for CPUs without a host."""
    config: dict[str, Any] = json.loads(str(target))
    derived = ("tag", "keys", "host") if config["kind"] == "llvm" else ("tag", "keys")
    kept = {n: v for n, v in config.items() if n not in derived and not n.startswith("feature.")}
    if "host" in kept:
        kept["host"] = _plain_config(json.dumps(kept["host"]))
    return kept


def _value(name: str, text: str) -> Any:
    if name in _LISTS:
        return text.split(",")
    if name not in _NAMES and text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() and name not in _NAMES else text


def _with_host(given: Mapping[str, Any]) -> dict[str, Any]:
    """The target with this machine's triple, and its CPU where the target names none. What that CPU's
    name promises but a virtual machine hides is switched off."""
    import tvm

    filled = {"mtriple": _host_triple(), **given}
    if "mcpu" not in given:
        filled["mcpu"] = str(tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")())
        named = {name: filled[name] for name in ("kind", "mtriple", "mcpu")}
        hidden = [f"-{feature}" for feature in _lacking(named)]
        if hidden or "mattr" in given:
            filled["mattr"] = [*hidden, *given.get("mattr", ())]
    return filled


def _check_cpu(text: str, config: Mapping[str, Any]) -> None:
    import tvm
    from tvm.target import codegen

    architectures = sorted(codegen.llvm_get_targets())
    triple = config.get("mtriple", _host_triple())
    if not _known_architecture(_architecture(triple), architectures):
        raise _refused(text, f"LLVM has no architecture {triple.split('-')[0]}")
    bare = tvm.target.Target({"kind": "llvm", "mtriple": triple})
    if "mcpu" in config and config["mcpu"] not in codegen.llvm_get_cpu_archlist(bare):
        raise _refused(text, f"LLVM knows no CPU {config['mcpu']!r} for {triple}")
    enabled = _features(config)
    for feature in config.get("mattr", ()):
        if feature[:1] not in "+-" or (feature[0] == "+") != (feature[1:] in enabled):
            raise _refused(
                text, f"LLVM knows no feature {feature!r} for {triple} (write +NAME or -NAME)"
            )


def _known_architecture(name: str, architectures: list[str]) -> bool:
    """ARM has dozens of spellings (armv7l, thumbv7em), all of which LLVM takes."""
    return name in architectures or name.startswith(("armv", "thumbv"))


def _architecture(triple: str) -> str:
    first = triple.split("-")[0]
    return _ARCHITECTURES.get(first, first)


def _features(config: Mapping[str, Any]) -> set[str]:
    """What the target's CPU and `mattr` allow the compiler to use."""
    import tvm
    from tvm.target import codegen

    wanted = {k: config[k] for k in ("kind", "mtriple", "mcpu", "mattr") if k in config}
    return {str(name) for name in codegen.llvm_get_cpu_features(tvm.target.Target(wanted))}


def _lacking(config: Mapping[str, Any]) -> list[str]:
    """Features that code for the target may use and this machine's CPU does not have."""
    known = _host_features()
    x86 = _architecture(_host_triple()) in ("x86_64", "i386")
    return sorted(
        name
        for name in _features(config)
        if known.get(name) is False and (not x86 or name.startswith(_EMITTED))
    )


@lru_cache
def _host_features() -> Mapping[str, bool]:
    import tvm

    found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    return {str(name): bool(present) for name, present in found.items()}


@lru_cache
def _host_triple() -> str:
    import tvm

    return str(tvm.get_global_func("tvm.codegen.llvm.GetDefaultTargetTriple")())


def _spell(config: Mapping[str, Any]) -> str:
    """The old command-line spelling; the host of a GPU is spelled in brackets."""
    words = [config["kind"]]
    for name in sorted(set(config) - {"kind"}):
        value = config[name]
        if isinstance(value, dict):
            value = f"[{_spell(value)}]"
        elif isinstance(value, list):
            value = ",".join(map(str, value))
        words.append(f"-{name}={str(value).lower() if isinstance(value, bool) else value}")
    return " ".join(words)


def _plain(error: Exception) -> str:
    """TVM's own message without what it quotes back."""
    last = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return last.split(" Target creation from")[0].rstrip(".")


def _refused(text: str, why: str) -> BackendUnavailable:
    return BackendUnavailable(f"TVM does not take the target {text!r}: {why}; for example {EXAMPLES}")
