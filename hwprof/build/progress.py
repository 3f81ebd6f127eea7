"""Progress on standard error: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TextIO

PLAIN_EVERY_S = 5.0
LIVE_EVERY_S = 0.25


@dataclass
class Status:
    """Where a build stands."""

    rows: int
    stage: str = "starting"
    finished: int = 0
    unstable: int = 0
    failed: int = 0
    visits: int = 0
    visits_left: int = 0
    current: str = ""

    def line(self, elapsed_s: float) -> str:
        rate = self.visits / elapsed_s if elapsed_s > 0 else 0.0
        eta = f"{self.visits_left / rate:.0f} s" if rate > 0 else "?"
        return (
            f"{self.stage} {self.finished}/{self.rows} rows, {rate:.0f} visits/s, at most {eta} left, "
            f"{self.unstable} not agreeing, {self.failed} failed, {self.current}"
        )


class Progress:
    """Draws a Status between visits only (a timer thread would run beside a timed op)."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live = not quiet and self._stream.isatty()
        self._started = time.monotonic()
        self._drawn = 0.0

    def begin(self) -> None:
        """Start the clock of rate and ETA."""
        self._started = time.monotonic()

    def note(self, text: str) -> None:
        """One line that stays."""
        if not self._quiet:
            self._clear()
            print(text, file=self._stream, flush=True)

    def update(self, status: Status) -> None:
        """Draw, at most four times a second on a terminal and every five seconds elsewhere."""
        now = time.monotonic()
        every = LIVE_EVERY_S if self._live else PLAIN_EVERY_S
        if self._quiet or now - self._drawn < every:
            return
        self._drawn = now
        line = status.line(now - self._started)
        if self._live:
            width = _terminal_width(self._stream)
            bar_width = 20
            filled = round(bar_width * status.finished / max(1, status.rows))
            bar = "█" * filled + "░" * (bar_width - filled)
            self._stream.write(f"\r\x1b[2K{bar} {line}"[: width + len("\r\x1b[2K") - 1])
            self._stream.flush()
        else:
            print(line, file=self._stream, flush=True)

    def end(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()


def _terminal_width(stream: TextIO) -> int:
    import os

    try:
        return os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return 100
