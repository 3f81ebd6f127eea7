"""Finds backends by entry point (group `hwprof.backends`), built-in and third-party alike."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from hwprof.backends.backend import Backend
from hwprof.errors import BackendError, BackendUnavailable

GROUP = "hwprof.backends"


def backend_names() -> tuple[str, ...]:
    """Names of all registered backends, sorted. Imports none of them."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def backend_class(name: str) -> type[Backend]:
    """The backend class of that name, imported.

    Raises:
        BackendUnavailable: the name is unknown, two packages claim it, or its module does not import.
        BackendError: what it names is no Backend.
    """
    points = {(p.value, _distribution(p)): p for p in entry_points(group=GROUP) if p.name == name}
    if not points:
        names = backend_names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BackendUnavailable(f"backend {name!r} is unknown; choose of {', '.join(names)}{hint}")
    if len(points) > 1:
        owners = ", ".join(sorted(owner for _, owner in points))
        raise BackendUnavailable(f"backend {name!r} is claimed by {owners}; uninstall all but one")
    (point,) = points.values()
    try:
        loaded = point.load()
    except Exception as error:
        raise BackendUnavailable(
            f"backend {name!r} ({_distribution(point)}) does not import: {error!r}"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        raise BackendError(f"entry point {name!r} names {point.value}, which is no hwprof Backend")
    return loaded


def load_backend(name: str) -> Backend:
    """A ready backend of that name.

    Raises:
        BackendUnavailable: as `backend_class`, or its runtime is missing; the message says what
            installs it.
    """
    backend = backend_class(name)
    found = backend.probe()
    if not found.available:
        raise BackendUnavailable(f"backend {name!r} lacks {found.missing}; run: {found.install}")
    return backend()


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown package"
