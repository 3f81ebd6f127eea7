"""What `hwprof backends` shows: one entry per registered backend, broken ones included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hwprof.backends.backend import Option
from hwprof.backends.registry import backend_class, backend_names
from hwprof.errors import BackendError


@dataclass(frozen=True)
class BackendEntry:
    """A registered backend; `missing` says why it cannot work and `install` what would mend that.
    With `open_targets` it takes other targets too, which it checks."""

    name: str
    available: bool
    version: str = ""
    targets: tuple[str, ...] = ()
    open_targets: bool = False
    dtypes: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    missing: str = ""
    install: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_backends() -> tuple[BackendEntry, ...]:
    """Every registered backend. One that does not import is an entry, not an error."""
    entries = []
    for name in backend_names():
        try:
            backend = backend_class(name)
        except BackendError as error:
            entries.append(BackendEntry(name, False, missing=str(error)))
            continue
        found = backend.probe()
        entries.append(
            BackendEntry(
                name,
                found.available,
                found.version,
                backend.targets,
                backend.open_targets or not backend.targets,
                backend.dtypes,
                backend.options,
                found.missing,
                found.install,
            )
        )
    return tuple(entries)
