"""What an export is asked for, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwprof.backends.backend import Target
from hwprof.build import BuildOptions
from hwprof.errors import BuildError

# Backends whose artifacts run.py can run, with the ending of a model's name.
EXPORTED = {"onnxruntime": ".onnx", "tflite": ".tflite"}
TARGET = "cpu"


@dataclass(frozen=True)
class ExportOptions:
    """Options of `hwprof export-jobs`.

    Attributes:
        out: the folder to make.
        target: "" is the backend's default; options: the backend's own settings by name.
        threads: of the runtime on the device, which may have more cores than this machine.
        limit: export so many ops at most.
    """

    backend: str
    space: str
    out: Path
    target: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    batch: int = 1
    dtype: str = "float32"
    effort: str = "normal"
    limit: int | None = None
    seed: int = 0

    def target_there(self) -> Target:
        """What the backend compiles for."""
        return Target(self.target or TARGET, self.threads, self.dtype, self.options)

    def check(self) -> None:
        """Raise on the first option that cannot work.

        Raises:
            HwprofError: names the option, its value and what is allowed.
        """
        if self.backend not in EXPORTED:
            raise BuildError(
                f"backend {self.backend!r} cannot be exported: its artifacts need more than a runtime "
                f"on the device; choose of {', '.join(EXPORTED)}"
            )
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise BuildError(f"--out {self.out} is there already; give a new folder's name")
        if not self.out.absolute().parent.is_dir():
            raise BuildError(
                f"--out {self.out}: {self.out.absolute().parent} is no folder; make it first"
            )
        if self.threads < 1:
            raise BuildError(f"threads {self.threads} is not 1 or more")
        if self.target not in ("", TARGET):
            raise BuildError(
                f"target {self.target!r} cannot be exported: run.py runs models on the device's "
                f"processor only; choose {TARGET}"
            )
        # Threads are the device's, so they are left out; its other options are those of a build.
        BuildOptions(
            backend=self.backend, space=self.space, out=self.out.absolute().parent / "lut.parquet",
            options=self.options, batch=self.batch, dtype=self.dtype, effort=self.effort,
            limit=self.limit, seed=self.seed,
        ).check()  # fmt: skip
