"""ONNX Runtime: int8, options that reach the runtime, and what it refuses."""

import os
import subprocess
import sys
import tempfile
import types
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_static

from hwprof import ops
from hwprof.backends import onnxruntime as backend_module
from hwprof.backends import onnxruntime_cuda, onnxruntime_int8
from hwprof.backends.backend import Artifact, Availability, Target
from hwprof.backends.conformance import CHECKS, check_numerics, opened
from hwprof.backends.onnxruntime import OnnxRuntimeBackend
from hwprof.backends.onnxruntime_cuda import CUDA_PROVIDER, OnnxRuntimeDeviceSession, check_cuda
from hwprof.backends.onnxruntime_int8 import Scheme, scheme
from hwprof.backends.onnxruntime_session import HOST_PROVIDER, make_session, session_options
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import GraphBuilder
from hwprof.graph.onnx_emitter import to_onnx

INT8 = Target("cpu", 1, "int8")
IMAGE = (1, 8, 12, 12)


def node_kinds(artifact: Artifact) -> Counter:
    return Counter(node.op_type for node in onnx.load_model_from_string(artifact.data).graph.node)


def has_cuda() -> bool:
    import onnxruntime

    return CUDA_PROVIDER in onnxruntime.get_available_providers()


without_cuda = pytest.mark.skipif("has_cuda()", reason="this onnxruntime has the CUDA provider")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_int8_keeps_the_contract(check):
    check(OnnxRuntimeBackend(), INT8)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_cuda_keeps_the_contract(check, dtype):
    backend, target = OnnxRuntimeBackend(), Target("cuda", 1, dtype)
    try:
        backend.check_target(target)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    check(backend, target)


def test_int8_op_takes_and_gives_8_bit_tensors_and_tells_what_they_mean():
    graph = ops.mbconv(IMAGE, 8, 3, 6, activation="relu6", dtype="int8").lower()
    with opened(OnnxRuntimeBackend(), graph, INT8) as session:
        session.run()
        (given,), (taken,) = session.inputs(), session.outputs()
        stored = session.quantisation()
    assert given.dtype == taken.dtype == np.dtype(scheme().activation)
    (scale, zero), limits = stored.inputs[0], np.iinfo(given.dtype)
    assert limits.min <= zero <= limits.max
    assert scale * (limits.max - limits.min) > 6, "standard normal values fit"


@pytest.mark.skipif(scheme().activation != "uint8", reason="kernels are looked at on x86 only")
def test_int8_convolutions_run_on_integer_kernels_from_border_to_border():
    backend = OnnxRuntimeBackend()
    graph = ops.fused_mbconv(IMAGE, 8, 3, 4, se_ratio=0.25, dtype="int8").lower()
    artifact = backend.compile(graph, INT8)
    kinds = node_kinds(artifact)
    assert kinds["QLinearConv"] == 4
    assert not {"Conv", "Mul", "QuantizeLinear", "DequantizeLinear"} & set(kinds)
    with backend.prepare(artifact, np.random.default_rng(0), INT8) as session:
        assert session.fallback() == ""


def test_int8_row_says_which_nodes_stay_in_float32():
    graph = ops.depthwise(IMAGE, 5, activation="hswish", dtype="int8").lower()
    with opened(OnnxRuntimeBackend(), graph, INT8) as session:
        assert session.fallback().endswith("nodes compute in float32: HardSigmoid, Mul")


def test_quantising_twice_gives_the_same_bytes():
    graph = ops.mixconv(IMAGE, 8, {3: 16, 5: 16}, se_ratio=0.25, dtype="int8").lower()
    assert onnxruntime_int8.quantise(graph) == onnxruntime_int8.quantise(graph)


def test_quantising_prints_nothing_and_leaves_no_file(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    OnnxRuntimeBackend().compile(ops.pool((1, 8, 15, 15), "max", 3, dtype="int8").lower(), INT8)
    assert list(tmp_path.iterdir()) == []
    assert (capfd.readouterr(), caplog.text) == (("", ""), "")


def test_activations_are_int8_off_x86(monkeypatch):
    monkeypatch.setattr(onnxruntime_int8, "scheme", lambda: Scheme("int8", 8))
    check_numerics(OnnxRuntimeBackend(), INT8)
    with opened(OnnxRuntimeBackend(), ops.fc((2, 16), 10, dtype="int8").lower(), INT8) as session:
        assert session.inputs()[0].dtype == np.int8


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", ["avx2", "avx512_vnni"], Scheme("uint8", 8)),
        ("x86_64", ["avx2", "avx_vnni"], Scheme("uint8", 8)),
        ("x86_64", ["avx2", "fma"], Scheme("uint8", 7)),
        ("AMD64", None, Scheme("uint8", 7)),
        ("aarch64", ["asimd"], Scheme("int8", 8)),
    ],
)
def test_weights_use_7_bits_where_16_bit_sums_would_saturate(monkeypatch, machine, flags, expected):
    monkeypatch.setattr(onnxruntime_int8.platform, "machine", lambda: machine)
    monkeypatch.setattr(onnxruntime_int8, "machine_identity", lambda: {"instruction_sets": flags})
    assert scheme.__wrapped__() == expected


def test_seven_bit_weights_agree_with_the_reference(monkeypatch):
    monkeypatch.setattr(onnxruntime_int8, "scheme", lambda: Scheme("uint8", 7))
    check_numerics(OnnxRuntimeBackend(), INT8)


def test_opaque_block_is_not_quantised_in_silence():
    builder = GraphBuilder(dtype="int8")
    graph = builder.build(builder.onnx(builder.input(IMAGE), "c0ffee" * 10, IMAGE))
    with pytest.raises(UnsupportedOp, match="subgraph c0ffeec0ffee is float"):
        OnnxRuntimeBackend().compile(graph, INT8)


def test_float16_row_says_that_the_cpu_computes_in_float32():
    target = Target("cpu", 1, "float16")
    graph = ops.depthwise((1, 8, 15, 15), 5, activation="hswish", dtype="float16").lower()
    artifact = OnnxRuntimeBackend().compile(graph, target)
    with OnnxRuntimeBackend().prepare(artifact, np.random.default_rng(0), target) as session:
        told = session.fallback()
    cast = node_kinds(artifact)["Cast"]
    assert bool(told) == bool(cast), f"{cast} casts, and: {told!r}"
    if cast:
        assert "nodes compute in float32: " in told


def test_optimisation_level_reaches_the_runtime_and_the_environment():
    backend, nodes = OnnxRuntimeBackend(), {}
    graph = ops.mbconv((1, 16, 12, 12), 16, 3, 6, activation="relu", dtype="float32").lower()
    for level in ("all", "disabled"):
        target = Target("cpu", options={"graph_optimization": level})
        nodes[level] = node_kinds(backend.compile(graph, target))
        assert backend.environment(target)["graph_optimization"] == level
    assert nodes["disabled"]["Relu"] == 2
    assert nodes["all"]["Relu"] == 0
    assert backend.environment(Target("cpu"))["graph_optimization"] == "all"


def test_what_optimises_and_quantises_is_told_apart_from_what_runs():
    """With `--python` the ops run on another version of onnxruntime than the one that compiles them."""
    backend = OnnxRuntimeBackend()
    version = backend.probe().version
    assert backend.compiler(Target("cpu")) == {"compiler_version": version}
    assert backend.compiler(INT8) == {"compiler_version": version, "quantisation": str(scheme())}
    assert backend.compiler(Target("cuda")) == {}  # each session optimises the model itself
    assert not {"compiler_version", "quantisation"} & set(backend.environment(INT8))


def test_quantiser_that_takes_no_quantised_weights_is_refused_before_the_build(monkeypatch):
    monkeypatch.setattr(
        OnnxRuntimeBackend, "probe", classmethod(lambda cls: Availability(True, "1.20.1"))
    )
    assert OnnxRuntimeBackend().compiler(Target("cpu")) == {"compiler_version": "1.20.1"}
    with pytest.raises(BackendUnavailable, match=r"1\.21 or newer.*1\.20\.1.*pip install -U"):
        OnnxRuntimeBackend().compiler(INT8)


@pytest.mark.parametrize("bits", [8, 7])
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (24, 1, 5, 5), (10, 32)])
def test_weights_are_quantised_as_the_quantiser_does_channel_by_channel(monkeypatch, shape, bits):
    from onnxruntime.quantization.quant_utils import quantize_data

    monkeypatch.setattr(onnxruntime_int8, "scheme", lambda: Scheme("uint8", bits))
    weight = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    weight[3] = 0.0
    stored, scales = onnxruntime_int8.stored_weight(weight)
    assert (stored.dtype, scales.dtype) == (np.int8, np.float32)
    for channel, values, scale in zip(weight, stored, scales, strict=True):
        zero, expected_scale, expected = quantize_data(
            channel.ravel(), onnx.TensorProto.INT8, symmetric=True, reduce_range=bits == 7
        )
        assert (zero, scale) == (0, expected_scale)
        assert np.array_equal(values.ravel(), expected)


def test_model_holds_the_very_numbers_that_quantize_static_would_give(tmp_path):
    """Weights quantised before and calibration on one thread save time, and change nothing."""
    graph = ops.mixconv(IMAGE, 8, {3: 16, 5: 16}, se_ratio=0.25, activation="relu", dtype="int8").lower()
    onnx.save_model(to_onnx(replace(graph, dtype="float32")), tmp_path / "float32.onnx")
    quantize_static(
        tmp_path / "float32.onnx", tmp_path / "int8.onnx", onnxruntime_int8._Calibration(graph),
        op_types_to_quantize=onnxruntime_int8.QUANTISED_KINDS, per_channel=True,
        reduce_range=scheme().weight_bits == 7, weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8 if scheme().activation == "uint8" else QuantType.QInt8,
        extra_options={"ForceQuantizeNoInputCheck": True},
    )  # fmt: skip
    theirs = onnx.load_model(tmp_path / "int8.onnx").graph
    onnxruntime_int8._open_borders(theirs)
    ours = onnx.load_model_from_string(onnxruntime_int8.quantise(graph)[0]).graph
    for told in ("node", "initializer"):
        assert numbers(getattr(ours, told)) == numbers(getattr(theirs, told))


def numbers(parts):
    """Kinds of nodes, or types, shapes and bytes of constants; names differ."""
    return Counter(
        part.op_type if isinstance(part, onnx.NodeProto)
        else (part.data_type, tuple(part.dims), onnx.numpy_helper.to_array(part).tobytes())
        for part in parts
    )  # fmt: skip


def test_int8_weights_keep_a_scale_for_each_channel_and_are_quantised_once():
    graph = ops.fused_mbconv(IMAGE, 8, 3, 4, dtype="int8").lower()
    model = onnx.load_model_from_string(onnxruntime_int8.quantise(graph)[0])
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    writers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        source = writers[node.input[1]]
        assert source.op_type == "DequantizeLinear"
        stored, scales = (constants[name] for name in source.input[:2])
        assert stored.data_type == onnx.TensorProto.INT8
        assert list(scales.dims) == [stored.dims[0]]


def test_setting_of_cuda_is_refused_on_the_cpu():
    with pytest.raises(BackendUnavailable, match="tf32 is for the target cuda"):
        OnnxRuntimeBackend().environment(Target("cpu", options={"tf32": "on"}))


def test_unknown_target_names_the_known_ones():
    with pytest.raises(BackendUnavailable, match="no target 'npu'; choose of cpu, cuda"):
        OnnxRuntimeBackend().check_target(Target("npu"))


@without_cuda
def test_cuda_without_its_provider_names_the_package_and_the_command():
    with pytest.raises(BackendUnavailable, match="pip install 'onnxruntime-gpu"):
        OnnxRuntimeBackend().check_target(Target("cuda"))


def test_cuda_without_a_driver_names_it(monkeypatch):
    runtime = types.SimpleNamespace(__version__="1", get_available_providers=lambda: [CUDA_PROVIDER])
    monkeypatch.setattr(onnxruntime_cuda, "DRIVER_LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(BackendUnavailable, match=r"needs an NVIDIA GPU and its driver \(libcuda-that"):
        check_cuda(runtime)


@without_cuda
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_session_that_falls_back_to_the_cpu_is_an_error():
    with pytest.raises(BackendError, match=f"the session of onnxruntime holds {HOST_PROVIDER}"):
        OnnxRuntimeBackend().compile(ops.skip(IMAGE).lower(), Target("cuda"))


def test_int8_on_cuda_is_unsupported():
    with pytest.raises(UnsupportedOp, match="no integer convolutions"):
        OnnxRuntimeBackend().compile(ops.skip(IMAGE, dtype="int8").lower(), Target("cuda", 1, "int8"))


def test_cuda_is_timed_warm_on_its_own_device_and_its_environment_says_how():
    backend, target = OnnxRuntimeBackend(), Target("cuda", options={"tf32": "on"})
    told = backend.environment(target)
    assert (backend.device(target), backend.cache_states(target)) == ("cuda:0", ("warm",))
    assert (told["provider"], told["tf32"], told["conv_algorithm_search"]) == (
        CUDA_PROVIDER, True, "exhaustive",
    )  # fmt: skip


@pytest.fixture
def device_session():
    """The session that CUDA uses, with its values in the only memory that is here."""
    artifact = OnnxRuntimeBackend().compile(ops.mbconv(IMAGE, 8, 3, 6).lower(), Target("cpu"))

    def make(profile):
        options = session_options("ORT_DISABLE_ALL", 1, profile)
        return make_session(artifact.data, options, [HOST_PROVIDER])

    with OnnxRuntimeDeviceSession(make, np.random.default_rng(3), "cpu") as session:
        yield session, artifact


def test_device_session_computes_what_the_host_session_does(device_session):
    session, artifact = device_session
    host = OnnxRuntimeBackend().prepare(artifact, np.random.default_rng(5), Target("cpu"))
    with host:
        values = host.inputs()
        assert not np.array_equal(session.inputs()[0], values[0])
        session.set_inputs(values)
        session.run()
        host.run()
        assert np.array_equal(session.outputs()[0], host.outputs()[0])
    assert session.input_buffers() == []
    assert all(session.addresses())


def test_device_session_counts_the_nodes_of_a_profiled_run(device_session, tmp_path, monkeypatch):
    session, artifact = device_session
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert session.placement() == {HOST_PROVIDER: sum(node_kinds(artifact).values())}
    count = session.placement()[HOST_PROVIDER]
    assert session.fallback() == f"{count} of {count} nodes ran on {HOST_PROVIDER}"
    assert list(tmp_path.iterdir()) == []


def test_closed_device_session_refuses_everything(device_session):
    session, _ = device_session
    session.close()
    for use in (session.run, session.inputs, session.outputs, session.placement):
        with pytest.raises(BackendError, match="closed"):
            use()


def installed(monkeypatch, **versions):
    def version(distribution):
        name = distribution.replace("-", "_")
        if name not in versions:
            raise backend_module.metadata.PackageNotFoundError(distribution)
        return versions[name]

    monkeypatch.setattr(backend_module.metadata, "version", version)
    return OnnxRuntimeBackend.probe()


def test_either_package_will_do(monkeypatch):
    assert installed(monkeypatch, onnxruntime_gpu="1.31.1").version == "1.31.1"
    assert installed(monkeypatch, onnxruntime="1.31.1", onnxruntime_gpu="1.31.1").available


def test_two_packages_that_overwrite_each_other_are_refused(monkeypatch):
    found = installed(monkeypatch, onnxruntime="1.31.1", onnxruntime_gpu="1.30.0")
    assert not found.available
    assert "onnxruntime 1.31.1 and onnxruntime-gpu 1.30.0" in found.missing
    assert found.install == (
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


@pytest.mark.parametrize(
    ("version", "new_enough"), [("1.17.3", False), ("1.18.0", True), ("2.0rc1", True), ("dev", False)]
)
def test_too_old_a_runtime_is_said(monkeypatch, version, new_enough):
    found = installed(monkeypatch, onnxruntime=version)
    assert found.available is new_enough
    if not new_enough:
        assert found.missing == f"onnxruntime 1.18 or newer (here: {version})"
        assert "pip install -U" in found.install


def test_runtime_that_breaks_on_import_is_one_line(tmp_path):
    broken = tmp_path / "onnxruntime"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('undefined symbol: OrtGetApi\\n in lib')")
    code = (
        "from hwprof.backends.onnxruntime import OnnxRuntimeBackend\n"
        "from hwprof.backends.backend import Target\n"
        "from hwprof.errors import BackendUnavailable\n"
        "try: OnnxRuntimeBackend().check_target(Target('cpu'))\n"
        "except BackendUnavailable as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "onnxruntime does not import: undefined symbol: OrtGetApi; "
        "run: pip install --force-reinstall onnxruntime\n"
    )


def test_remains_of_an_uninstalled_runtime_are_no_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(BackendUnavailable, match="imports, but is empty"):
        OnnxRuntimeBackend().check_target(Target("cpu"))
