"""The command line: each command is a thin wrapper over a library call."""

from hwprof.cli.main import main

__all__ = ["main"]
