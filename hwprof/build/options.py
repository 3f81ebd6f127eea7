"""What a build is asked for, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwprof.backends import backend_class
from hwprof.backends.backend import Backend, Target
from hwprof.environment import usable_cores
from hwprof.errors import BuildError
from hwprof.measure.protocol import Protocol, protocol


@dataclass(frozen=True)
class BuildOptions:
    """Options of `hwprof build-lut`; `check` says what is wrong with them.

    Attributes:
        target: "" is the backend's default.
        options: the backend's own settings by name.
        python: interpreter of the worker processes that run ops; None: this one.
        sustain_s: measure after so long a soak under load; 0: as short visits find the device.
        budget_s: bounds the whole build; `limit`: the number of ops measured now.
        op_timeout_s: bounds one visit, and a compilation where nothing else does.
        compile_timeout_s: bounds one compilation.
    """

    backend: str
    space: str
    out: Path
    target: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    python: Path | None = None
    threads: int = 1
    batch: int = 1
    dtype: str = "float32"
    cache: str = "warm"
    effort: str = "normal"
    rel_precision: float | None = None
    budget_s: float | None = None
    limit: int | None = None
    seed: int = 0
    fresh: bool = False
    retry_failed: bool = False
    op_timeout_s: float = 120.0
    compile_timeout_s: float | None = None
    sustain_s: float = 0.0

    @property
    def regime(self) -> str:
        return "sustained" if self.sustain_s else "burst"

    def protocol(self) -> Protocol:
        return protocol(self.effort, self.rel_precision)

    def resolved_target(self) -> str:
        """The target by name.

        Raises:
            BuildError: the backend has no such target, or needs one and got none.
        """
        backend = backend_class(self.backend)
        targets = backend.targets
        if not targets and not self.target:
            raise BuildError(f"backend {self.backend!r} needs --target")
        target = self.target or targets[0]
        if targets and not backend.open_targets and target not in targets:
            raise BuildError(
                f"target {target!r} is unknown to {self.backend}; choose of {', '.join(targets)}"
            )
        return target

    def full_target(self) -> Target:
        """All that the backend compiles for. Raises as `resolved_target`."""
        return Target(self.resolved_target(), self.threads, self.dtype, self.options)

    def check(self) -> None:
        """Raise on the first option that cannot work.

        Raises:
            BuildError: names the option, its value and what is allowed.
            BackendUnavailable: the backend is unknown or its runtime is missing.
        """
        self.protocol()
        backend = backend_class(self.backend)
        self.resolved_target()
        if self.dtype not in backend.dtypes:
            raise BuildError(
                f"dtype {self.dtype!r} is not compiled by {self.backend}; "
                f"choose of {', '.join(backend.dtypes)}"
            )
        check_options(backend, self.options)
        caches = backend().cache_states(self.full_target())
        if self.cache not in caches:
            raise BuildError(
                f"cache {self.cache!r} is unknown to {self.backend}; choose of {', '.join(caches)}"
            )
        cores = len(usable_cores())
        here = backend().device(self.full_target()) != "remote"
        if self.threads < 1 or (here and self.threads > cores):
            raise BuildError(f"threads {self.threads} is not in 1..{cores}, the cores usable here")
        for name, value in (("batch", self.batch), ("limit", self.limit), ("budget", self.budget_s)):
            if value is not None and value <= 0:
                raise BuildError(f"{name} must be more than 0, got {value:g}")
        for name, seconds in (
            ("op-timeout", self.op_timeout_s),
            ("compile-timeout", self.compile_timeout_s),
        ):
            if seconds is not None and seconds <= 0:
                raise BuildError(f"{name} must be more than 0 seconds, got {seconds:g}")
        if self.sustain_s < 0:
            raise BuildError(f"sustain must be 0 seconds or more, got {self.sustain_s:g}")
        if self.seed < 0:
            raise BuildError(f"seed must be 0 or more, got {self.seed}")
        check_out(self.out)


def check_options(backend: type[Backend], options: Mapping[str, str]) -> None:
    """Raise where a backend has no such option, or the option no such value.

    Raises:
        BuildError: names the option, its value and what is allowed.
    """
    for name, value in options.items():
        if name not in backend.options:
            known = ", ".join(backend.options) or "none"
            raise BuildError(f"option {name!r} is unknown to {backend.name}; it has: {known}")
        choices = backend.options[name].choices
        if choices and value not in choices:
            raise BuildError(
                f"option {name}={value!r} is unknown to {backend.name}; choose of {', '.join(choices)}"
            )


def check_out(out: Path) -> None:
    """Raise where no table can be written under this path.

    Raises:
        BuildError: a folder, a missing folder above it, or not a .parquet name.
    """
    if os.path.isdir(out):
        raise BuildError(f"--out {out} is a folder; give a file name such as {out / 'lut.parquet'}")
    if out.suffix != ".parquet":
        raise BuildError(f"--out {out} does not end in .parquet; give a name such as lut.parquet")
    if not os.path.isdir(out.absolute().parent):
        raise BuildError(
            f"--out {out}: the folder {out.absolute().parent} does not exist; make it first"
        )
