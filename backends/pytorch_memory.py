"""The memory that PyTorch's CPU tensors are made of, as the C library hands it out."""

from __future__ import annotations

import ctypes

from hwprof.errors import BackendError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""

_asked: list[str] = []
"""What this process's first session asked for. glibc never adapts its thresholds again once told."""


def allocator_of(wanted: str) -> str:
    """What the option `allocator` comes to on this machine: without glibc there is only `system`."""
    return "kept" if wanted == "kept" and _mallopt() is not None else "system"


def set_allocator(wanted: str) -> None:
    """Have glibc keep what was freed (`kept`), or leave it alone (`system`).

    PyTorch allocates each layer's output anew. Left alone, glibc takes large blocks from the kernel and
    gives them back, or does not, depending on what the process allocated before: a network of `s3nas`
    had 5,000 page faults a call, 15 % of its CPU time.

    Raises:
        BackendError: a session of this process asked for the other.
    """
    if not _asked:
        _asked.append(wanted)
        mallopt = _mallopt()
        if wanted == "kept" and mallopt is not None:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, -1)
    if _asked[0] != wanted:
        raise BackendError(
            f"allocator={wanted} is asked for in a process whose sessions have allocator={_asked[0]}; "
            "use another process"
        )


def _mallopt() -> ctypes._NamedFuncPointer | None:
    try:
        found: ctypes._NamedFuncPointer = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return None  # not glibc: macOS, musl, Windows
    return found
