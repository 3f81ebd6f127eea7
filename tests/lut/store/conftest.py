"""A local store and the commands that use one."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hwprof.cli.lut import lut as command


@pytest.fixture
def folder(tmp_path):
    """A local store."""
    return f"delta+{tmp_path}/store"


@pytest.fixture
def run():
    def invoke(*words):
        result = CliRunner().invoke(command, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke
