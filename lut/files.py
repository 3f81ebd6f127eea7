"""What tables and journals both need from the file system."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def partial_path(place: Path) -> Path:
    """A name beside a file for its making. It is like no other: process ids repeat between containers
    that share a folder."""
    return place.with_name(f".{place.name}.{secrets.token_hex(8)}.partial")


def sync_folder(folder: Path) -> None:
    """Make names that were created or renamed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
