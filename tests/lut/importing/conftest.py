"""Small S3NAS folders, and an independent writer of S3NAS's file names."""

import json

import pytest

from hwprof.errors import HwprofError
from hwprof.lut import load_lut, verify_lut
from hwprof.lut.importing import Request, import_table

LAYERS = {"mbconv": "MBConvBlock", "mixconv": "MixConvBlock", "fused_mbconv": "ConvBlock_kxk1x1"}
NUMBERS = {"mbconv": 0, "mixconv": 100, "fused_mbconv": 15}


def names_of(op):
    """(file, ...) of an op as S3NAS would have it; a head is three."""
    stride = f"s{op.stride}{op.stride}"
    side = op.shape[2] if len(op.shape) == 4 else 1
    width, out = op.in_channels, op.out_channels
    if op.kind == "conv":
        return (f"Conv2D/k{op.mix[0][0]}_{stride}_i{width}_o{out}_imgsize{side}",)
    if op.kind == "head":
        hidden = op.hidden_channels
        return (
            f"Conv2D/k1_s11_i{width}_o{hidden}_imgsize{side}",
            f"GlobalAvgPool/i{hidden}_imgsize{side}",
            f"Dense/i{hidden}_o{out}_imgsize1",
        )
    kernels = ",".join(str(kernel) for kernel, _ in op.mix)
    expansions = ",".join(str(channels // width) for _, channels in op.mix)
    noskip = "_noskip" if op.stride == 1 and width == out and not op.residual else ""
    name = f"r1_k{kernels}_{stride}_e{expansions}_i{width}_o{out}_c{NUMBERS[op.kind]}"
    return (f"{LAYERS[op.kind]}/{name}{noskip}_imgsize{side}",)


@pytest.fixture(scope="session")
def file_names():
    return names_of


@pytest.fixture
def folder(tmp_path):
    """Writes files, given as name -> number or as name -> text, and returns their folder."""

    def write(files):
        root = tmp_path / "published"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            numeric = isinstance(content, int | float)
            path.write_text(json.dumps({"latency": content}) if numeric else content)
        return root

    return write


@pytest.fixture(scope="session")
def error_of():
    """Calls something and gives the message of the HwprofError that it raises, "" for none. Any other
    exception is the test's failure."""

    def called(function, *arguments):
        try:
            function(*arguments)
        except HwprofError as error:
            return str(error)
        return ""

    return called


@pytest.fixture
def imported(tmp_path):
    """Imports a file or folder in a format and gives the outcome and the table."""

    def run(source, file_format, **told):
        out = tmp_path / f"lut{len(list(tmp_path.glob('lut*.parquet')))}.parquet"
        made = import_table(source, out, file_format, Request(**told))
        verify_lut(out)
        return made, load_lut(out)

    return run


@pytest.fixture
def write(tmp_path):
    """Writes a file of text or bytes and returns its path."""

    def written(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written
