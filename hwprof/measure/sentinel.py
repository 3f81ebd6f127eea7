"""Sentinels: two fixed pieces of work, one dense and one memory-bound, timed beside every visit.

They gate visits (was the machine at its usual speed?) and are never divided by: dividing made rows
worse (measurement notes, section 3).
"""

from __future__ import annotations

import time

import numpy as np

DENSE_SIDE = 128
MEMORY_BYTES = 2 << 20
DENSE_REPEATS = 3
MEMORY_REPEATS = 6


class Sentinels:
    """The two pieces of work with their own buffers; about half a millisecond a look."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._left = rng.standard_normal((DENSE_SIDE, DENSE_SIDE), dtype=np.float32)
        self._right = rng.standard_normal((DENSE_SIDE, DENSE_SIDE), dtype=np.float32)
        self._product = np.empty_like(self._left)
        self._source = np.zeros(MEMORY_BYTES // 8)
        self._copy = np.empty_like(self._source)

    def look(self) -> tuple[float, float]:
        """Milliseconds of the dense and of the memory-bound work, each the lowest of some tries."""
        clock = time.perf_counter_ns
        dense, memory = [], []
        for _ in range(DENSE_REPEATS):
            start = clock()
            np.matmul(self._left, self._right, out=self._product)
            dense.append(clock() - start)
        for _ in range(MEMORY_REPEATS):
            start = clock()
            np.copyto(self._copy, self._source)
            memory.append(clock() - start)
        return min(dense) / 1e6, min(memory) / 1e6


DENSE_INTENSITY = 8.0


def is_dense(flops: int, bytes_moved: int) -> bool:
    """Which sentinel speaks for an op: dense from 8 FLOPs a byte on, memory-bound below."""
    return bytes_moved == 0 or flops / bytes_moved >= DENSE_INTENSITY
