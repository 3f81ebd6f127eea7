"""TVM on this machine's CPU, and its code for machines that are not here."""

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwprof import ops
from hwprof.backends import tvm_target
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import CHECKS
from hwprof.backends.tvm import TvmBackend
from hwprof.environment import environment
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp

tvm = pytest.importorskip("tvm", reason="apache-tvm is not installed")

HERE = Target("llvm")
AARCH64 = Target("llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a72")
CUDA = Target("cuda -arch=sm_90")
ELF_AARCH64 = 183

without_gpu = pytest.mark.skipif(tvm.cuda(0).exist, reason="there is a GPU here")
on_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="names x86 features")


@pytest.fixture
def backend():
    return TvmBackend()


@pytest.fixture(scope="module")
def graph():
    return ops.mbconv((1, 8, 12, 12), 8, 3, 6, activation="hswish").lower()


@pytest.fixture(scope="module")
def artifact(graph):
    return TvmBackend().compile(graph, HERE)


def members(artifact):
    """Name and content of each file of a tar artifact."""
    with tarfile.open(fileobj=io.BytesIO(artifact.data)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_tvm_keeps_the_contract(check):
    check(TvmBackend(), HERE)


def test_llvm_alone_means_this_machine_and_the_environment_says_which_cpu(backend):
    backend.check_target(HERE)
    found = backend.environment(HERE)
    cpu = str(tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")())
    assert found["compiled_for"].startswith("llvm ")
    assert f"-mcpu={cpu}" in found["compiled_for"]
    assert found["runtime_version"] == metadata.version("apache-tvm")
    assert found["ffi_version"] == metadata.version("apache-tvm-ffi")
    assert "trials" not in found
    assert "device" not in found
    assert environment(found, HERE.name, 1).identity["compiled_for"] == found["compiled_for"]


def test_an_artifact_runs_in_another_process_on_the_cores_that_it_was_given(artifact, tmp_path):
    """TVM would pin the caller to the first cores: a worker that measures on core 5 would leave it."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not pin processes to cores")
    path = tmp_path / "op.so"
    path.write_bytes(artifact.data)
    code = (
        "import json, os, pathlib, sys, numpy as np, tvm\n"
        "from hwprof.backends.backend import Artifact, Target\n"
        "from hwprof.backends.tvm import TvmBackend\n"
        "cores = {max(os.sched_getaffinity(0))}\n"
        "os.sched_setaffinity(0, cores)\n"
        "artifact = Artifact(pathlib.Path(sys.argv[1]).read_bytes(), json.loads(sys.argv[2]))\n"
        "target = Target('llvm', threads=2)\n"
        "with TvmBackend().prepare(artifact, np.random.default_rng(5), target) as session:\n"
        "    session.run()\n"
        "    assert tvm.runtime.num_threads() == 2\n"
        "    assert os.sched_getaffinity(0) == cores\n"
        "    print(float(session.outputs()[0].sum()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps(dict(artifact.metadata))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with TvmBackend().prepare(artifact, np.random.default_rng(5), HERE) as session:
        session.run()
        assert float(done.stdout) == pytest.approx(float(session.outputs()[0].sum()), rel=1e-6)


def test_threads_are_set_for_each_session(artifact):
    """TVM's pool once stayed at two threads for a session of one."""
    for threads in (2, 1, 2, 1):
        target = Target("llvm", threads=threads)
        TvmBackend().prepare(artifact, np.random.default_rng(0), target).close()
        assert tvm.runtime.num_threads() == threads


def test_placement_counts_the_kernels_that_one_call_launches(backend, artifact):
    with backend.prepare(artifact, np.random.default_rng(0), HERE) as session:
        assert session.placement() == {"llvm": 3}
    nothing = backend.compile(ops.skip((1, 8, 12, 12)).lower(), HERE)
    with backend.prepare(nothing, np.random.default_rng(0), HERE) as session:
        assert session.placement() == {}


def test_outputs_before_a_run_are_refused(backend, artifact):
    with (
        backend.prepare(artifact, np.random.default_rng(0), HERE) as session,
        pytest.raises(BackendError, match="no run has finished"),
    ):
        session.outputs()


def test_loading_leaves_no_file(backend, artifact, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with backend.prepare(artifact, np.random.default_rng(0), HERE) as session:
        session.run()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_closed_session_unloads_its_library(backend, artifact):
    def mapped():
        return Path("/proc/self/maps").read_text().count("hwprof-")

    before = mapped()
    with backend.prepare(artifact, np.random.default_rng(0), HERE) as session:
        session.run()
        assert mapped() > before
    del session
    assert mapped() == before


def test_code_for_another_cpu_is_built_and_is_for_that_cpu(backend, graph):
    artifact = backend.compile(graph, AARCH64)
    assert artifact.metadata["form"] == "tar"
    objects = members(artifact)
    assert objects
    for content in objects.values():
        assert content[:4] == b"\x7fELF"
        assert int.from_bytes(content[18:20], "little") == ELF_AARCH64


def test_code_for_another_cpu_is_not_run_here(backend, graph):
    message = r"cannot run here: it is for aarch64-linux-gnu.*rpc_tracker"
    with pytest.raises(BackendUnavailable, match=message):
        backend.check_target(AARCH64)
    artifact = backend.compile(graph, AARCH64)
    for target in (AARCH64, HERE):
        with pytest.raises(BackendUnavailable, match=message):
            backend.prepare(artifact, np.random.default_rng(0), target)


@on_x86
def test_code_for_a_cpu_with_more_instructions_is_not_run_here(backend, monkeypatch):
    older = {**tvm_target._host_features(), "avx512fp16": False}
    monkeypatch.setattr(tvm_target, "_host_features", lambda: older)
    with pytest.raises(BackendUnavailable, match="this machine's CPU lacks avx512fp16"):
        backend.check_target(Target("llvm -mattr=+avx512fp16"))


def test_gpu_code_is_built_without_a_gpu(backend, graph):
    artifact = backend.compile(graph, CUDA)
    assert b"__global__" in artifact.data or b"sm_90" in artifact.data
    assert artifact.metadata["kernels"] > 0
    assert backend.device(CUDA) == "cuda:0"
    assert backend.cache_states(CUDA) == ("warm",)


@without_gpu
def test_gpu_code_is_not_run_without_a_gpu(backend, graph):
    with pytest.raises(BackendUnavailable, match="it needs an NVIDIA GPU and its driver"):
        backend.check_target(CUDA)
    artifact = backend.compile(graph, CUDA)
    with pytest.raises(BackendUnavailable, match="it needs an NVIDIA GPU and its driver"):
        backend.prepare(artifact, np.random.default_rng(0), CUDA)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llvm -mtriple=aarch64-linux-gnu -mattr=+neon,+dotprod",
         "llvm -mattr=+neon,+dotprod -mtriple=aarch64-linux-gnu -num-cores=2"),
        ('{"kind": "llvm", "mtriple": "riscv64-linux-gnu"}',
         "llvm -mtriple=riscv64-linux-gnu -num-cores=2"),
        ("raspberry-pi/4b-aarch64",
         "llvm -mattr=+neon -mcpu=cortex-a72 -mtriple=aarch64-linux-gnu -num-cores=2"),
    ],
)  # fmt: skip
def test_targets_are_taken_as_text_as_json_and_as_a_tag(text, expected, backend):
    assert backend.environment(Target(text, threads=2))["compiled_for"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("abacus", 'Target kind "abacus" is not defined'),
        ("llvm mcpu=znver4", "not of the form -NAME=VALUE"),
        ("llvm -speed=high", "Unknown config option 'speed'"),
        ("llvm -mtriple=aarch64-linux-gnu -mcpu=8088", "LLVM knows no CPU '8088'"),
        ("llvm -mtriple=aarch64-linux-gnu -mattr=+dotpro", "LLVM knows no feature"),
        ("llvm -mtriple=pdp11-dec-unix", "LLVM has no architecture pdp11"),
        ("cuda -arch=sm_1", "no GPU architecture"),
        ("{", "it is no JSON"),
    ],
)
def test_a_target_that_tvm_would_misread_is_refused_with_examples(text, message, backend):
    with pytest.raises(BackendUnavailable, match=message) as caught:
        backend.environment(Target(text))
    assert "for example llvm" in str(caught.value)
    assert "\n" not in str(caught.value)


@without_gpu
def test_cuda_without_an_architecture_needs_a_gpu_to_take_it_from(backend):
    with pytest.raises(BackendUnavailable, match="add -arch=sm_NN"):
        backend.environment(Target("cuda"))


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("llvm", "host"),
        ("llvm -mtriple=aarch64-linux-gnu", "host"),
        ("cuda -arch=sm_90", "cuda:0"),
        ("nvidia/nvidia-h100", "cuda:0"),
        ('{"kind": "cuda", "arch": "sm_90"}', "cuda:0"),
    ],
)
def test_the_device_follows_from_the_target(text, device, backend):
    assert backend.device(Target(text)) == device


@pytest.mark.parametrize(
    ("versions", "missing", "available"),
    [
        ({"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}, "", True),
        ({"apache-tvm": "0.14.0", "apache-tvm-ffi": "0.1.14"}, "apache-tvm 0.27 or newer", False),
        ({"apache-tvm": "0.27.0", "apache-tvm-ffi": "0.1.15"}, "segmentation fault", False),
        ({"apache-tvm-ffi": "0.1.14"}, "the package apache-tvm", False),
        ({"apache-tvm": "0.27.0"}, "the package apache-tvm-ffi", False),
    ],
)
def test_probe_says_which_version_it_needs(versions, missing, available, monkeypatch):
    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    found = TvmBackend.probe()
    assert found.available is available
    assert missing in found.missing
    if not available:
        assert "apache-tvm-ffi==0.1.14.post1" in found.install


def test_a_tvm_that_does_not_import_is_said_with_what_installs_it(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "tvm", None)
    tvm_target.resolve_target.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"tvm does not import.*pip install apache-tvm=="):
        backend.check_target(HERE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuning": "metaschedule", "trials": "0"}, "trials is '0'"),
        ({"tuning": "metaschedule", "trials": "many"}, "trials is 'many'"),
        ({"tuning": "metaschedule", "tuning_seconds": "-1"}, "tuning_seconds is '-1'"),
        ({"tuning": "metaschedule", "tuning_seconds": "nan"}, "tuning_seconds is 'nan'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, backend):
    with pytest.raises(BackendUnavailable, match=message):
        backend.check_target(Target("llvm", options=options))


def test_a_damaged_artifact_is_refused_in_one_line(backend, artifact):
    for damaged in (replace(artifact, data=b"garbage"), Artifact(artifact.data)):
        with pytest.raises(BackendError) as caught:
            backend.prepare(damaged, np.random.default_rng(0), HERE)
        assert "\n" not in str(caught.value)


def test_an_operator_that_tvm_cannot_read_is_unsupported(backend, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HWPROF_HOME", str(tmp_path))
    info = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Celu", ["x"], ["y"])], "block",
        [info("x", shape=[1, 4, 4, 4])], [info("y", shape=[1, 4, 4, 4])],
    )  # fmt: skip
    opset = [onnx.helper.make_opsetid("", 17)]
    op = ops.from_onnx(onnx.helper.make_model(body, opset_imports=opset, ir_version=8))
    with pytest.raises(UnsupportedOp, match="Celu") as caught:
        backend.compile(op.lower(), HERE)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_without_a_compiler_the_message_says_what_to_install(backend, graph, monkeypatch):
    for name in ("CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendUnavailable, match="C\\+\\+ compiler"):
        backend.compile(graph, HERE)


def test_float16_is_unsupported_with_the_reason(backend):
    graph = ops.fc((2, 16), 10, dtype="float16").lower()
    with pytest.raises(UnsupportedOp, match="float16 products"):
        backend.compile(graph, replace(HERE, dtype="float16"))
