"""Graphs compiled ahead of time by Inductor, the compiler behind `torch.compile` (AOTInductor).

The package is a .pt2 archive of machine code without weights and without pickle. Loading one takes 5 ms
and compiles nothing; `torch.compile` itself would trace anew in each process, and its cache pickles.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hwprof.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule

# Inductor takes some 180 settings from variables of the environment when it is imported, and a few
# later: passes, tuning, flags of the C++ compiler. Two change where it works, not what it makes.
VARIABLES = ("TORCHINDUCTOR_", "AOT_INDUCTOR_", "AOTINDUCTOR_")
WITHOUT_EFFECT = ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS")


def import_inductor() -> None:
    """Import Inductor with its own defaults: variables that would change them are taken out of this
    process, since numbers of two settings must not mix in one environment.

    Raises:
        BackendUnavailable: it is imported already, so that they may have taken effect.
    """
    found = [name for name in os.environ if name.startswith(VARIABLES) and name not in WITHOUT_EFFECT]
    if found and "torch._inductor.config" in sys.modules:
        raise BackendUnavailable(
            f"--option mode=compile takes Inductor's own defaults; unset {', '.join(sorted(found))}"
        )
    for name in found:
        del os.environ[name]
    importlib.import_module("torch._inductor.config")


def compile_package(module: GraphModule, inputs: list[Tensor]) -> bytes:
    """Machine code for these very shapes, strides, device and number of threads.

    Raises:
        BackendError: Inductor or its C++ compiler refused.
        BackendUnavailable: as `import_inductor`.
    """
    import_inductor()
    import torch
    from torch._inductor import aot_compile, config
    from torch._inductor.package.package import package_aoti

    archive = io.BytesIO()
    options: dict[str, Any] = {
        "aot_inductor.package": True,
        "aot_inductor.package_constants_in_so": False,
    }
    # Line tables are two thirds of an archive and change no code.
    if hasattr(config.aot_inductor, "enable_line_tables"):
        options["aot_inductor.enable_line_tables"] = False
    # What Inductor writes beside its shared caches (compiled headers) goes when the archive is made.
    with tempfile.TemporaryDirectory(prefix="hwprof-") as folder, warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):  # torch uses what it deprecates itself
            warnings.simplefilter("ignore", category)
        options["aot_inductor.output_path"] = folder
        try:
            with torch.no_grad():
                exported = torch.export.export(module, tuple(inputs))
                files = aot_compile(exported.module(), tuple(inputs), options=options)
            package_aoti(archive, files)  # type: ignore[arg-type]
        except Exception as error:
            raise BackendError(f"Inductor refused: {_reason(error)}") from error
    return archive.getvalue()


class PackagedCall:
    """A package on given weights and inputs, which are read where they lie; a call without arguments.

    One library is loaded per package and process, and it points to the weights of the call that used it
    last. A library of its own for each session would stay mapped when that is closed (its symbols are
    unique ones, which no system unloads): 6 mappings and 0.3 MB a visit.

    Raises:
        BackendError: the package does not load here.
    """

    def __init__(self, package: bytes, weights: Mapping[str, Tensor], inputs: list[Tensor]) -> None:
        self._library = _library(package, inputs[0].device.index)
        self._weights = weights
        self._inputs = inputs
        # The public call parses the tree of arguments each time (30 us); the loader takes the list.
        self._run = self._library.loaded.loader.run

    def __call__(self) -> list[Tensor]:
        if self._library.user() is not self:
            self._library.point_to(self._weights)
            self._library.user = weakref.ref(self)
        results: list[Tensor] = self._run(self._inputs)
        return results


class _Library:
    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded
        self.user: Callable[[], PackagedCall | None] = lambda: None

    def point_to(self, weights: Mapping[str, Tensor]) -> None:
        wanted = {name: weights[name] for name in self.loaded.get_constant_fqns()}
        self.loaded.load_constants(wanted, check_full_update=True, user_managed=True)


_LIBRARIES: dict[tuple[bytes, int], _Library] = {}
# Each library lies unpacked in a folder of its own, which goes when torch lets go of it. torch 2.13 puts
# it into $TMPDIR, so that it goes with a killed worker too; older versions (2.6) put it into /tmp.
atexit.register(_LIBRARIES.clear)


def _library(package: bytes, device_index: int | None) -> _Library:
    from torch._inductor import aoti_load_package

    index = -1 if device_index is None else device_index
    key = (hashlib.sha256(package).digest(), index)
    if key not in _LIBRARIES:
        try:
            loaded = aoti_load_package(io.BytesIO(package), run_single_threaded=True, device_index=index)
        except Exception as error:
            raise BackendError(f"a compiled package does not load: {_reason(error)}") from error
        _LIBRARIES[key] = _Library(loaded)
    return _LIBRARIES[key]


def cxx_compiler() -> str:
    """The C++ compiler that Inductor calls, as `NAME` of $CXX or the system's default."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


def cxx_version() -> str:
    """First line of `CXX --version`.

    Raises:
        BackendUnavailable: there is no such compiler.
    """
    compiler = cxx_compiler()
    if shutil.which(compiler) is None:
        raise BackendUnavailable(
            f"--option mode=compile needs the C++ compiler {compiler}, which is not on the PATH; run: "
            "apt-get install g++ (or set CXX), or choose mode=eager"
        )
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout:
        raise BackendUnavailable(
            f"--option mode=compile needs a C++ compiler; `{compiler} --version` fails; set CXX to one "
            "that works, or choose mode=eager"
        )
    return done.stdout.splitlines()[0].strip()


def _reason(error: Exception) -> str:
    """The compiler's own `error:` line where there is one, else the first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "error:" in line]
    return (told or lines or [type(error).__name__])[0][:300]
