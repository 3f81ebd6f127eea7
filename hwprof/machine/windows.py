"""Windows: the little that the standard library tells about the processor."""

from __future__ import annotations

import os
import sys
from typing import Any


def identity() -> dict[str, Any]:
    import platform

    return {
        **parse_identifier(platform.processor()),
        "device": _processor_name(),
        "logical_cores": os.cpu_count(),
    }


def parse_identifier(text: str) -> dict[str, Any]:
    """From `Intel64 Family 6 Model 142 Stepping 10, GenuineIntel`."""
    words, _, vendor = text.partition(",")
    parts = words.split()
    found: dict[str, Any] = {"vendor": vendor.strip() or None}
    for name in ("Family", "Model", "Stepping"):
        value = parts[parts.index(name) + 1] if name in parts[:-1] else ""
        found[name.lower()] = int(value) if value.isdecimal() else None
    return found


def _processor_name() -> str | None:
    if sys.platform == "win32":
        import winreg

        key = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as processor:
                return str(winreg.QueryValueEx(processor, "ProcessorNameString")[0]).strip() or None
        except OSError:
            return None
    return None
