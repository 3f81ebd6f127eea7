"""The memory that PyTorch's CPU tensors are made of, as the C library hands it out."""

from __future__ import annotations

import ctypes

from hwprof.errors import BackendError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""

_in_force: str | None = None


def allocator_of(wanted: str) -> str:
    """What the option `allocator` comes to on this machine: without glibc there is only `system`."""
    return wanted if _has_mallopt() else "system"


def set_allocator(wanted: str) -> None:
    """Have glibc keep what was freed (`kept`), or leave it alone (`system`).

    PyTorch allocates each layer's output anew. Left alone, glibc takes large blocks from the kernel and
    gives them back, or does not, depending on what the process allocated before: a network of `s3nas`
    had 5,000 page faults a call, 15 % of its CPU time.

    Raises:
        BackendError: glibc refuses, or a session of this process has the other: once told, glibc never
            adapts its thresholds again.
    """
    global _in_force
    allocator = allocator_of(wanted)
    if _in_force is None:
        if allocator == "kept":
            _keep_freed_memory()
        _in_force = allocator
    if _in_force != allocator:
        raise BackendError(
            f"allocator={allocator} is asked for in a process whose sessions have "
            f"allocator={_in_force}; use another process"
        )


def _keep_freed_memory() -> None:
    mallopt = ctypes.CDLL(None).mallopt
    if not (mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1)):
        raise BackendError("the C library does not keep freed memory; give --option allocator=system")


def _has_mallopt() -> bool:
    try:
        return hasattr(ctypes.CDLL(None), "mallopt")
    except (OSError, TypeError):
        return False  # Windows
