"""Environment: what a number is valid for (identity), and how the machine was when it was taken
(conditions).

Identity is hashed into the `environment_id` of every row; conditions are recorded and never hashed.
What cannot be read is None, never guessed. Field by field: docs/environment.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwprof.errors import BackendError, LutError
from hwprof.machine import system

ENVIRONMENT_ID_VERSION = 1


@dataclass(frozen=True)
class Environment:
    """Identity and conditions, plain JSON both.

    Equality and hash follow identity and conditions; two environments whose numbers may be compared
    have the same `environment_id`.
    """

    identity: Mapping[str, Any]
    conditions: Mapping[str, Any]

    def __post_init__(self) -> None:
        # One spelling, whether made here or read back from JSON: tuples are lists, keys are text.
        for name in ("identity", "conditions"):
            object.__setattr__(self, name, json.loads(_canonical(getattr(self, name))))

    def __hash__(self) -> int:
        return hash((_canonical(self.identity), _canonical(self.conditions)))

    @property
    def environment_id(self) -> str:
        """First 16 hex digits of sha256 over version and canonical JSON of the identity."""
        import hashlib

        text = f"hwprof-environment-v{ENVIRONMENT_ID_VERSION}:{_canonical(self.identity)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One line: `AMD EPYC, 2 cores, Linux x86_64, virtual, onnxruntime 1.31.1 cpu, 1 thread`."""
        names = ("runtime", "runtime_version", "target")
        runtime = " ".join(str(self.identity[n]) for n in names if self.identity.get(n))
        threads = self.identity.get("threads")
        parts = [describe_machine(self.identity), runtime]
        if threads is not None:
            parts.append(f"{threads} thread{'s' if threads != 1 else ''}")
        return ", ".join(part for part in parts if part)

    def differences(self, other: Environment) -> list[tuple[str, Any, Any]]:
        """(field, mine, theirs) for every field of the identity that differs; an absent one is None."""
        fields = [*self.identity, *(f for f in other.identity if f not in self.identity)]
        pairs = ((f, self.identity.get(f), other.identity.get(f)) for f in fields)
        return [(f, mine, theirs) for f, mine, theirs in pairs if mine != theirs]

    def to_dict(self) -> dict[str, Any]:
        return {"identity": dict(self.identity), "conditions": dict(self.conditions)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Environment:
        """Inverse of `to_dict`.

        Raises:
            LutError: not an object with `identity` and `conditions`, two objects.
        """
        parts = (
            [data.get(name) for name in ("identity", "conditions")] if isinstance(data, Mapping) else []
        )
        if not parts or not all(isinstance(part, Mapping) for part in parts) or len(data) != 2:
            raise LutError(
                f"environment {str(data)[:60]!r} is not {{identity: {{...}}, conditions: {{...}}}}; "
                "the file is damaged, fetch or build it anew"
            )
        return cls(data["identity"], data["conditions"])


def environment(
    backend_identity: Mapping[str, Any], target: str, threads: int, remote: bool = False
) -> Environment:
    """The environment of this machine and a runtime on it.

    Call it in the process that plans the measurement, before any process is pinned: on a chip with
    several kinds of cores, those that this process may use are part of the identity.

    Args:
        backend_identity: `Backend.environment(target)`: runtime, runtime_version and options.
        target: what the backend compiles for.
        threads: intra-op threads of the runtime.
        remote: the ops run on another machine, which the backend's part names as `device`; nothing of
            this one goes into the identity then.

    Raises:
        BackendError: `threads` is below 1, or the backend's part is no plain JSON or names a field of
            the machine.
    """
    if threads < 1:
        raise BackendError(f"threads {threads} is not 1 or more; pass --threads with a core count")
    machine = {} if remote else machine_identity()
    here = {**machine, "target": target, "threads": threads}
    if taken := sorted(set(here) & set(backend_identity)):
        raise BackendError(
            f"the backend's environment may not name {taken[0]!r}, a field of the machine"
        )
    try:
        _canonical(backend_identity)
    except (TypeError, ValueError) as error:
        raise BackendError(f"the backend's environment is no plain JSON: {error}") from error
    conditions = {} if remote else machine_conditions()
    return Environment({**here, **backend_identity}, conditions)


def machine_identity() -> dict[str, Any]:
    """The machine's part of the identity: device, instruction sets, cores, caches, governor class,
    container CPU limit, virtualisation."""
    return system.identity()


def machine_conditions() -> dict[str, Any]:
    """Frequency, load, temperature, affinity, versions and the like, as they are now."""
    return system.conditions()


def describe_machine(identity: Mapping[str, Any]) -> str:
    """Device, core count, system and what narrows it, for people."""
    from hwprof.machine.processor import kind_name

    kinds = [kind_name(kind) for kind in identity.get("core_kinds") or ()]
    device = identity.get("device") or "unknown processor"
    cores = identity.get("logical_cores")
    parts = [f"{device} ({' + '.join(kinds)})" if kinds else device]
    if cores is not None:
        parts.append(f"{cores} core{'s' if cores != 1 else ''}")
    parts.append(" ".join(str(identity[n]) for n in ("system", "architecture") if identity.get(n)))
    if identity.get("cpu_limit") is not None:
        parts.append(f"limited to {identity['cpu_limit']:g} CPUs")
    if identity.get("virtualised"):
        parts.append("virtual")
    return ", ".join(part for part in parts if part)


def usable_cores() -> tuple[int, ...]:
    """Cores that this process may run on: its affinity on Linux, elsewhere every core."""
    return system.affinity()


def cache_bytes() -> dict[int, int]:
    """Cache level (1: data, 2, 3) to bytes of one cache of that level. A level that is not there or
    cannot be read is absent."""
    return system.cache_levels()


def timer_resolution_ns() -> float:
    """Resolution of `time.perf_counter` as the system states it; `hwprof doctor` measures it too."""
    return time.get_clock_info("perf_counter").resolution * 1e9


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
