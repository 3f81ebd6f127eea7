"""PyTorch on the CPU keeps the contract in every mode, and says what it cannot do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from hwprof import ops
from hwprof.backends import load_backend
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import (
    CHECKS,
    DEVICE_CHECKS,
    TOLERANCES,
    check_chain,
    check_numerics,
    check_unsupported_dtype,
    outputs_of,
)
from hwprof.backends.pytorch import PytorchBackend
from hwprof.backends.pytorch_package import WITHOUT_EFFECT, cxx_compiler, import_inductor
from hwprof.backends.pytorch_session import place_weight
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import GraphBuilder

COMPILE = Target("cpu", options={"mode": "compile"})
EAGER = [
    Target("cpu"),
    Target("cpu", dtype="float16"),
    Target("cpu", dtype="bfloat16"),
    Target("cpu", options={"layout": "channels_last"}),
    Target("cpu", dtype="bfloat16", options={"layout": "channels_last"}),
]
needs_compiler = pytest.mark.skipif(
    shutil.which(cxx_compiler()) is None, reason=f"the C++ compiler {cxx_compiler()} is not here"
)


class Remembering(PytorchBackend):
    """Compiles each Graph once: the C++ compiler takes 6 s for each."""

    compiled: dict[str, Artifact] = {}  # noqa: RUF012 - one for the whole module

    def compile(self, graph, target):
        key = repr((graph, target))
        if key not in self.compiled:
            self.compiled[key] = super().compile(graph, target)
        return self.compiled[key]


def network():
    """Every primitive but the opaque block, small."""
    image = (1, 8, 13, 13)
    return ops.lower(
        [
            ops.mixconv(image, 8, {3: 16, 5: 16}, se_ratio=0.25, activation="hswish"),
            ops.mbconv(image, 8, 3, 2, activation="swish"),
            ops.activation(image, "relu6"),
            ops.skip(image),
            ops.pool(image, "max", 3, stride=2),
            ops.pool((1, 8, 7, 7), "avg", 3),
            ops.head((1, 8, 7, 7), 10, 16, activation="relu"),
        ]
    )


def label(target):
    return "-".join([target.dtype, *target.options.values()])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("target", EAGER, ids=label)
def test_eager_keeps_the_contract(check, target):
    check(PytorchBackend(), target)


@needs_compiler
@pytest.mark.parametrize(
    "check",
    [c for c in CHECKS if c not in (check_numerics, check_chain, check_unsupported_dtype)],
    ids=lambda check: check.__name__,
)
def test_compiled_keeps_the_contract(check):
    check(Remembering(), COMPILE)


@needs_compiler
def test_sessions_of_one_compiled_network_keep_their_own_weights_and_inputs():
    """They share one loaded library, which is pointed to the weights of whoever runs."""
    backend, graph = Remembering(), network()
    artifact = backend.compile(graph, COMPILE)
    one, two = (backend.prepare(artifact, np.random.default_rng(seed), COMPILE) for seed in (1, 2))
    for session in (one, two, one):
        (got,), (want,) = outputs_of(session, graph)
        assert np.abs(got - want).max() <= TOLERANCES["float32"] * np.abs(want).max()
    one.close()
    del one
    (got,), (want,) = outputs_of(two, graph)
    assert np.abs(got - want).max() <= TOLERANCES["float32"] * np.abs(want).max()


@needs_compiler
def test_a_compiled_artifact_runs_in_another_process_without_a_compiler(tmp_path):
    backend, op = Remembering(), ops.mbconv((1, 8, 12, 12), 8, 3, 6)
    artifact = backend.compile(op.lower(), COMPILE)
    path = tmp_path / "data"
    path.write_bytes(artifact.data)
    with backend.prepare(artifact, np.random.default_rng(5), COMPILE) as session:
        session.run()
        here = session.outputs()[0]
    program = f"""
import os
os.environ["CXX"], os.environ["PATH"] = "no-such-compiler", ""
import numpy as np
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.pytorch import PytorchBackend
artifact = Artifact(open({str(path)!r}, "rb").read(), {dict(artifact.metadata)!r})
target = Target("cpu", options={{"mode": "compile"}})
with PytorchBackend().prepare(artifact, np.random.default_rng(5), target) as session:
    session.run()
    print(session.outputs()[0].tobytes().hex())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here.tobytes().hex()


@pytest.mark.device
@pytest.mark.parametrize("check", DEVICE_CHECKS, ids=lambda check: check.__name__)
def test_it_runs_synchronously_and_works_for_its_time(check):
    check(PytorchBackend(), Target("cpu"))


def test_weights_are_placed_anew_on_a_cache_line_in_the_wanted_layout():
    values = np.arange(2 * 3 * 5 * 5, dtype=np.float32).reshape(2, 3, 5, 5)
    rng = np.random.default_rng(0)
    seen = [place_weight(values, last, rng) for last in (False, True, False, True)]
    assert len({tensor.data_ptr() for tensor in seen}) == 4
    assert all(tensor.data_ptr() % 64 == 0 for tensor in seen)
    assert all(np.array_equal(tensor.numpy(), values) for tensor in seen)
    assert seen[0].is_contiguous()
    assert seen[1].is_contiguous(memory_format=torch.channels_last)


def test_the_input_buffer_is_nhwc_in_memory_where_asked():
    target = Target("cpu", options={"layout": "channels_last"})
    graph = ops.activation((1, 8, 12, 12), "relu").lower()
    backend = PytorchBackend()
    with backend.prepare(backend.compile(graph, target), np.random.default_rng(0), target) as session:
        (buffer,) = session.input_buffers()
    assert buffer.shape == (1, 8, 12, 12)
    assert buffer.transpose(0, 2, 3, 1).flags["C_CONTIGUOUS"]


def test_bfloat16_comes_out_as_float32_so_that_its_numbers_can_be_checked():
    target = Target("cpu", dtype="bfloat16")
    backend = PytorchBackend()
    artifact = backend.compile(ops.activation((1, 8, 4, 4), "relu", dtype="bfloat16").lower(), target)
    with backend.prepare(artifact, np.random.default_rng(0), target) as session:
        session.run()
        assert session.outputs()[0].dtype == np.float32
        assert session.inputs()[0].dtype.name == "bfloat16"


def test_threads_are_set_for_each_session():
    backend, before = PytorchBackend(), torch.get_num_threads()
    artifact = backend.compile(ops.skip((1, 8, 4, 4)).lower(), Target("cpu", threads=1))
    try:
        for threads in (2, 1):
            target = Target("cpu", threads=threads)
            backend.prepare(artifact, np.random.default_rng(0), target).close()
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Target("cpu", options={"mode": "cudagraph"}), "mode=cudagraph needs --target cuda"),
        (Target("cpu", options={"tf32": "on"}), "tf32=on needs --target cuda"),
        (Target("cuda", options={"allocator": "system"}), "allocator=system needs --target cpu"),
        (Target("cpu", options={"mode": "fast"}), "mode='fast' .* eager, compile, cudagraph"),
        (Target("tpu"), "'tpu' is unknown to pytorch; choose of cpu, cuda, cuda:1"),
        (Target("cuda:x"), "'cuda:x' is unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused_before_the_build(target, reason):
    for ask in (PytorchBackend().environment, PytorchBackend().check_target):
        with pytest.raises(BackendUnavailable, match=reason) as caught:
            ask(target)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_cuda_on_a_cpu_build_of_torch_names_the_package():
    for ask in (PytorchBackend().environment, PytorchBackend().check_target):
        with pytest.raises(BackendUnavailable, match=r"this torch \(.+\) has no CUDA; install"):
            ask(Target("cuda"))


INDUCTOR_SETTINGS = """
import json
from hwprof.backends.pytorch_package import import_inductor
import_inductor()
from torch._inductor import config
print(json.dumps({name: repr(value) for name, value in config.get_config_copy().items()}))
"""


def test_no_variable_of_the_users_environment_changes_what_inductor_makes():
    """All that its configuration reads, set to one value: some would tune for minutes, some fold weights
    into the code, some are refused."""
    source = find_spec("torch._inductor.config").origin
    names = set(re.findall(r'"((?:TORCHINDUCTOR|AOT_?INDUCTOR)_[A-Z0-9_]+)"', Path(source).read_text()))
    assert {"TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHINDUCTOR_FREEZING"} <= names
    clean = {name: value for name, value in os.environ.items() if name not in names}
    settings = [
        subprocess.run(
            [sys.executable, "-c", INDUCTOR_SETTINGS],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout
        for environment in (clean, clean | dict.fromkeys(names - set(WITHOUT_EFFECT), "1"))
    ]  # fmt: skip
    assert json.loads(settings[0]) == json.loads(settings[1])


def test_a_setting_that_inductor_may_have_read_already_is_refused(monkeypatch):
    import_inductor()
    monkeypatch.setenv("TORCHINDUCTOR_FREEZING", "1")
    for ask in (
        lambda: PytorchBackend().check_target(COMPILE),
        lambda: PytorchBackend().compile(ops.skip((1, 8, 4, 4)).lower(), COMPILE),
    ):
        with pytest.raises(BackendUnavailable, match="own defaults; unset TORCHINDUCTOR_FREEZING"):
            ask()
    monkeypatch.delenv("TORCHINDUCTOR_FREEZING")
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import_inductor()


LOADED_LIBRARIES = """
import sys
import numpy as np
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.pytorch import PytorchBackend
metadata = {"graph": sys.argv[2], "weight_bytes": int(sys.argv[3])}
artifact = Artifact(open(sys.argv[1], "rb").read(), metadata)
target = Target("cpu", options={"mode": "compile"})
session = PytorchBackend().prepare(artifact, np.random.default_rng(5), target)
session.run()
print(*{line.split()[-1] for line in open("/proc/self/maps") if ".wrapper.so" in line}, flush=True)
sys.stdin.read()
"""


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is loaded")
def test_what_a_killed_worker_unpacked_lies_in_its_own_temporary_folder(tmp_path):
    artifact = Remembering().compile(ops.mbconv((1, 8, 12, 12), 8, 3, 6).lower(), COMPILE)
    path, scratch = tmp_path / "data", tmp_path / "scratch"
    path.write_bytes(artifact.data)
    scratch.mkdir()
    told = [str(artifact.metadata[name]) for name in ("graph", "weight_bytes")]
    worker = subprocess.Popen(
        [sys.executable, "-c", LOADED_LIBRARIES, str(path), *told],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    loaded = worker.stdout.readline().split()
    worker.kill()
    worker.communicate()
    assert loaded, "the library was not found among the mapped files"
    assert all(Path(library).is_relative_to(scratch) for library in loaded)
    assert all(Path(library).exists() for library in loaded), "SIGKILL leaves it to the pipeline"


def test_memory_of_gpus_is_handed_back_only_where_cuda_was_started(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    for started in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda started=started: started)
        PytorchBackend().release()
    assert emptied == [True]


def test_releasing_imports_no_torch():
    program = (
        "import sys; from hwprof.backends.pytorch import PytorchBackend as B; B().release(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_compiler_is_named_with_the_command(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    for ask in (PytorchBackend().environment, PytorchBackend().check_target):
        with pytest.raises(BackendUnavailable, match=r"no-such-compiler.*apt-get install g\+\+"):
            ask(COMPILE)
    PytorchBackend().check_target(Target("cpu"))


def test_devices_and_cache_states_follow_the_target():
    backend = PytorchBackend()
    assert [backend.device(Target(name)) for name in ("cpu", "cuda", "cuda:1")] == [
        "host", "cuda:0", "cuda:1",
    ]  # fmt: skip
    assert backend.cache_states(Target("cuda")) == ("warm", "evicted")


def test_an_opaque_block_is_unsupported():
    builder = GraphBuilder()
    graph = builder.build(builder.onnx(builder.input((1, 3, 8, 8)), "abcdef0123456789", (1, 3, 8, 8)))
    with pytest.raises(UnsupportedOp, match="opaque ONNX block abcdef012345"):
        PytorchBackend().compile(graph, Target("cpu"))


@pytest.mark.parametrize("damage", ["no metadata", "cut short", "package in a strange place"])
def test_a_damaged_artifact_is_refused_in_one_line(damage):
    backend = PytorchBackend()
    whole = backend.compile(ops.conv((1, 3, 8, 8), 4).lower(), Target("cpu"))
    broken = {
        "no metadata": Artifact(whole.data),
        "cut short": Artifact(whole.data[:-100], whole.metadata),
        "package in a strange place": Artifact(whole.data + b"no package", whole.metadata),
    }[damage]
    with pytest.raises(BackendError) as caught:
        backend.prepare(broken, np.random.default_rng(0), Target("cpu"))
    assert "\n" not in str(caught.value)


def test_an_artifact_of_another_mode_is_not_run_as_if_it_were_of_this_one():
    backend = PytorchBackend()
    eager = backend.compile(ops.conv((1, 3, 8, 8), 4).lower(), Target("cpu"))
    with pytest.raises(BackendError, match="not compiled for mode=compile"):
        backend.prepare(eager, np.random.default_rng(0), COMPILE)


def test_a_package_that_does_not_load_is_refused_in_one_line():
    eager = PytorchBackend().compile(ops.conv((1, 3, 8, 8), 4).lower(), Target("cpu"))
    broken = Artifact(eager.data + b"no package", eager.metadata)
    with pytest.raises(BackendError, match="a compiled package does not load") as caught:
        PytorchBackend().prepare(broken, np.random.default_rng(0), COMPILE)
    assert "\n" not in str(caught.value)


def test_it_is_found_by_its_entry_point():
    assert isinstance(load_backend("pytorch"), PytorchBackend)


def test_importing_it_imports_no_torch():
    program = "import sys, hwprof.backends.pytorch; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
