"""What a build is asked for, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwprof.backends import backend_class
from hwprof.environment import usable_cores
from hwprof.errors import BuildError
from hwprof.measure.protocol import Protocol, protocol


@dataclass(frozen=True)
class BuildOptions:
    """Options of `hwprof build-lut`; `check` says what is wrong with them.

    `target` "" is the backend's default. `budget_s` bounds the whole build, `limit` the number of ops
    measured now, `op_timeout_s` one compilation or visit.
    """

    backend: str
    space: str
    out: Path
    target: str = ""
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

    def protocol(self) -> Protocol:
        return protocol(self.effort, self.rel_precision)

    def resolved_target(self) -> str:
        """The target by name.

        Raises:
            BuildError: the backend has no such target, or needs one and got none.
        """
        targets = backend_class(self.backend).targets
        if not targets:
            if not self.target:
                raise BuildError(f"backend {self.backend!r} needs --target")
            return self.target
        target = self.target or targets[0]
        if target not in targets:
            raise BuildError(
                f"target {target!r} is unknown to {self.backend}; choose of {', '.join(targets)}"
            )
        return target

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
        if self.cache not in backend.caches:
            raise BuildError(
                f"cache {self.cache!r} is unknown to {self.backend}; "
                f"choose of {', '.join(backend.caches)}"
            )
        cores = len(usable_cores())
        if not 1 <= self.threads <= cores:
            raise BuildError(f"threads {self.threads} is not in 1..{cores}, the cores usable here")
        for name, value in (("batch", self.batch), ("limit", self.limit), ("budget", self.budget_s)):
            if value is not None and value <= 0:
                raise BuildError(f"{name} must be more than 0, got {value:g}")
        if self.op_timeout_s <= 0:
            raise BuildError(f"op-timeout must be more than 0 seconds, got {self.op_timeout_s:g}")
        if self.seed < 0:
            raise BuildError(f"seed must be 0 or more, got {self.seed}")
        check_out(self.out)


def check_out(out: Path) -> None:
    """Raise where no table can be written under this path.

    Raises:
        BuildError: a folder, a missing folder above it, or not a .parquet name.
    """
    if out.is_dir():
        raise BuildError(f"--out {out} is a folder; give a file name such as {out / 'lut.parquet'}")
    if out.suffix != ".parquet":
        raise BuildError(f"--out {out} does not end in .parquet; give a name such as lut.parquet")
    if not out.absolute().parent.is_dir():
        raise BuildError(
            f"--out {out}: the folder {out.absolute().parent} does not exist; make it first"
        )
