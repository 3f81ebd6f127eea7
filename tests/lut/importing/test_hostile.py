"""Damaged files of every format: a table or one line, and nothing written on an error."""

import io
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.lut.importing import Request, import_s3nas, import_table

BLOCK = "expanded_conv-input:28x28x40-output:28x28x40-expand:3-kernel:7-stride:1-idskip:1"
CONV = [
    ["TENSOR", [1, 8, 14, 14], "float32"],
    ["TENSOR", [16, 8, 1, 1], "float32"],
    [1, 1],
    [0, 0],
    [1, 1],
]
CALL = {
    "cat": "Node", "dur": 12, "ph": "X", "name": "conv_kernel_time", "args": {
        "op_name": "Conv", "provider": "CPUExecutionProvider",
        "input_type_shape": [{"float": [1, 8, 14, 14]}, {"float": [16, 8, 1, 1]}],
        "output_type_shape": [{"float": [1, 16, 14, 14]}]},
}  # fmt: skip
SEEDS = {
    "ofa": f"{BLOCK}-se:1-hs:1:\n  count: 451\n  mean: 1.84\n  std: 0.05\n",
    "proxylessnas": f"{BLOCK}:\n  count: 451\n  mean: 1.84\n  var: 0.05\n",
    "fbnet": json.dumps([[1000.0 * n + k for k in range(9)] for n in range(22)]),
    "hw-nas-bench": json.dumps(
        {"fbnet": {"fpga_latency": {"FC_Cin1984_Cout1000": 1.5, "Skip_H4_W4_Cin3_Cout6_stride2": 2}}}
    ),
    "tvm": json.dumps({"input": ["llvm", "conv2d_nchw.x86", CONV, {}], "result": [[0.002], 0, 1, 1]}),
    "onnxruntime": json.dumps([CALL, {**CALL, "name": "other_kernel_time"}]),
    "csv": "kind,in_channels,out_channels,latency_ms,side,kernel\nfc,3,4,1.5,,\nconv,3,4,1.5,8,3\n",
}  # fmt: skip
TOLD = {"device": "board", "runtime": "own"}
MORE = {"fbnet": {"layers": "imagenet"}}
EDIT = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 10**6), st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("insert"), st.integers(0, 10**6), st.sampled_from(
        [b"[", b"{", b'"', b"\n", b"-", b"e999", b"9" * 40, b"NaN", b"&a ", b"*a", b"!!x ", b"\xff",
         b"\0", b",,,", b"../", b"\\ud800", "\ud7ff\u202e".encode(), b"0", b".", b":", b"null"]
    )),
    st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(b"")),
    st.tuples(st.just("double"), st.integers(0, 10**6), st.just(b"")),
)  # fmt: skip


def edited(data, edits):
    for kind, place, content in edits:
        at = place % (len(data) + 1)
        match kind:
            case "set":
                data = data[:at] + content + data[at + len(content) :]
            case "insert":
                data = data[:at] + content + data[at:]
            case "cut":
                data = data[:at]
            case "double":
                data = data[:at] + data
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


def attempt(error_of, folder, source, file_format):
    """Import; on an error nothing may stand beside the source."""
    out = folder / "out" / "lut.parquet"
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir()
    request = Request(**TOLD, **MORE.get(file_format, {}))
    made = []
    message = error_of(lambda: made.append(import_table(source, out, file_format, request)))
    if message:
        assert "\n" not in message
        assert len(message) < 2000
        assert list(out.parent.iterdir()) == []
        return None
    (made,) = made
    assert len(load_lut(out)) == made.rows > 0
    assert all(name.isprintable() and "\n" not in reason for name, reason in made.refused)
    return made


@pytest.mark.parametrize("file_format", sorted(SEEDS))
def test_seeds_are_read_whole(error_of, folder, file_format):
    source = folder / "seed"
    source.write_text(SEEDS[file_format])
    made = attempt(error_of, folder, source, file_format)
    assert made is not None
    assert made.rows > 0


@pytest.mark.parametrize("file_format", sorted(SEEDS))
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_a_damaged_file_is_a_table_or_one_line(error_of, folder, file_format, edits):
    source = folder / "damaged"
    source.write_bytes(edited(SEEDS[file_format].encode(), edits))
    attempt(error_of, folder, source, file_format)


def parquet_frame():
    file = io.BytesIO()
    names = ["FC_Cin1984_Cout1000", "FC_Cin8_Cout10"]
    pq.write_table(pa.table({"op": names, "fpga_latency": [1.5, 2.5], "fpga_energy": [3.0, None]}), file)
    return file.getvalue()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_a_damaged_parquet_frame_is_a_table_or_one_line(error_of, folder, edits):
    source = folder / "frame.parquet"
    source.write_bytes(edited(parquet_frame(), edits))
    attempt(error_of, folder, source, "hw-nas-bench")


BOMBS = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep YAML": b"- " * 100_000,
    "laughs": b"a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n",
    "one long line": b"a" * 3_000_000,
    "commas": b"," * 1_000_000,
    "quotes": b'"' * 1_000_001,
    "brackets": b"[]," * 300_000,
    "nulls": b"\0" * 100_000,
    "digits": b"9" * 100_000,
    "spaces": b" " * 1_000_000,
    "not UTF-8": b"\xff\xfe" * 1000,
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("file_format", sorted(SEEDS))
def test_files_that_explode_are_one_line(error_of, folder, file_format, name):
    source = folder / "bomb"
    source.write_bytes(BOMBS[name])
    assert attempt(error_of, folder, source, file_format) is None


@pytest.mark.parametrize("name", ["deep lists", "laughs", "nothing", "not UTF-8", "digits"])
def test_an_s3nas_file_that_explodes_is_named(folder, tmp_path, name):
    layer = tmp_path / "MBConvBlock"
    layer.mkdir()
    (layer / "r1_k3_s11_e6_i32_o32_c0_imgsize56").write_bytes(BOMBS[name])
    with pytest.raises(LutError, match="holds no S3NAS latency"):
        import_s3nas(tmp_path, tmp_path / "lut.parquet")


@pytest.mark.parametrize("file_format", sorted(SEEDS))
def test_a_folder_of_rubbish_is_one_line(error_of, folder, tmp_path, file_format):
    (tmp_path / "a.yaml").write_bytes(b"\xff")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "database_tuning_record.json").write_bytes(b"[[[[")
    (tmp_path / "sub" / "database_workload.json").symlink_to("/dev/zero")
    assert attempt(error_of, folder, tmp_path, file_format) is None
