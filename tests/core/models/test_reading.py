"""Models come from strangers: what cannot be priced or trusted is refused in one line, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hwprof.models import ModelError, read_model
from hwprof.models.reading import MAX_BYTES, MAX_NODES, model_of


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_is_read_with_its_shapes_and_without_its_weights(
    network: onnx.ModelProto, tmp_path: Path
) -> None:
    model = read_model(save(network, tmp_path / "m.onnx"))
    assert model.inputs == ("x",)
    assert model.dtype == "float32"
    assert [node.kind for node in model.nodes][:3] == ["Conv", "BatchNormalization", "Clip"]
    assert model.shapes[model.nodes[0].output] == (1, 24, 16, 16)
    assert model.shapes[model.outputs[0]] == (1, 10)


@pytest.mark.parametrize("data", [b"", b"not onnx at all", b"\x08\x07\x12\x04text"])
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert "no ONNX model" in refused(path)


@given(cut=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
def test_a_damaged_file_ends_in_a_model_or_in_one_line(
    network: onnx.ModelProto, cut: int, seed: int
) -> None:
    data = bytearray(network.SerializeToString())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), cut):
        data[place] = int(rng.integers(0, 256))
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bytes(data))
    except Exception:  # noqa: BLE001 - protobuf's own error; `read_model` says it in a line
        return
    said = ""
    try:
        model_of(proto, "damaged")
    except ModelError as error:
        said = str(error)
    assert "\n" not in said


def test_a_name_that_is_no_text_is_one_line(network: onnx.ModelProto, tmp_path: Path) -> None:
    """Protobuf decodes a text only when it is asked for, and raises then."""
    name = network.graph.initializer[0].name.encode()
    path = tmp_path / "m.onnx"
    path.write_bytes(network.SerializeToString().replace(name, b"\xff" * len(name)))
    assert "is damaged: a name in it is no UTF-8" in refused(path)


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    assert "is no file" in refused(tmp_path)
    assert "is no file" in refused(tmp_path / "absent.onnx")


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "is the most" in refused(path)


@pytest.mark.parametrize("shape", [("batch", 3, 32, 32), (0, 3, 32, 32), (1, 3, "h", "w")])
def test_a_dynamic_input_is_named_with_its_shape(
    maker: Any, tmp_path: Path, shape: tuple[int | str, ...]
) -> None:
    m = maker(shape)
    message = refused(save(m.model(m.op("Relu", "x")), tmp_path / "m.onnx"))
    assert "input 'x' has the dynamic shape" in message
    assert str(shape[0]) in message


def test_a_shape_that_hangs_on_values_is_refused_by_operator(maker: Any, tmp_path: Path) -> None:
    m = maker((4, 8))
    model = m.model(m.op("Cast", m.op("NonZero", "x"), to=TensorProto.FLOAT))
    assert "'NonZero' (NonZero_t0) gives a dynamic or unknown shape" in refused(
        save(model, tmp_path / "m.onnx")
    )


def test_control_flow_is_refused_by_name(maker: Any, tmp_path: Path) -> None:
    m = maker((1, 8))
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "b", [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )  # fmt: skip
    y = m.op("If", m.constant(np.bool_(True)), then_branch=branch, else_branch=branch)
    assert "'If' (If_t0) is control flow" in refused(save(m.model(y), tmp_path / "m.onnx"))


def test_custom_operators_are_refused_with_their_domain(maker: Any, tmp_path: Path) -> None:
    m = maker((1, 8))
    y = m.op("Magic", "x", domain="my.company")
    message = refused(save(m.model(y, domains=("my.company",)), tmp_path / "m.onnx"))
    assert "'Magic'" in message
    assert "'my.company'" in message


def nested_functions(maker: Any, depth: int) -> onnx.ModelProto:
    """Each function calls the one before it twice."""
    m = maker((1, 8))
    functions = []
    for level in range(depth):
        inner = ("Relu", "") if level == 0 else (f"f{level - 1}", "local")
        nodes = [
            helper.make_node(inner[0], ["a"], ["b"], domain=inner[1]),
            helper.make_node(inner[0], ["b"], ["c"], domain=inner[1]),
        ]
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
        functions.append(helper.make_function("local", f"f{level}", ["a"], ["c"], nodes, opsets))
    model = m.model(m.op(f"f{depth - 1}", "x", domain="local"), domains=("local",))
    model.functions.extend(functions)
    return model


def test_local_functions_are_inlined(maker: Any, tmp_path: Path) -> None:
    model = read_model(save(nested_functions(maker, 3), tmp_path / "m.onnx"))
    assert [node.kind for node in model.nodes] == ["Relu"] * 8


@pytest.mark.parametrize("depth", [16, 40, 400])
def test_functions_that_would_unfold_without_end_are_refused_at_once(
    maker: Any, tmp_path: Path, depth: int
) -> None:
    message = refused(save(nested_functions(maker, depth), tmp_path / "m.onnx"))
    assert "more than" in message


def test_a_function_that_calls_itself_is_refused(maker: Any, tmp_path: Path) -> None:
    model = nested_functions(maker, 1)
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "f0", "local"
    assert "call each other" in refused(save(model, tmp_path / "m.onnx"))


def test_too_many_operators_are_refused(maker: Any, tmp_path: Path) -> None:
    m = maker((1, 8))
    y = "x"
    for _ in range(MAX_NODES + 1):
        y = m.op("Relu", y)
    assert f"more than {MAX_NODES} operators" in refused(save(m.model(y), tmp_path / "m.onnx"))


def test_tensors_of_absurd_size_are_refused(maker: Any, tmp_path: Path) -> None:
    m = maker((1, 1 << 20, 1 << 20))
    assert "shape" in refused(save(m.model(m.op("Relu", "x")), tmp_path / "m.onnx"))
    m = maker((1, 8))
    y = m.op("Expand", "x", m.constant(np.array([1 << 20, 1 << 14, 8])))
    assert "elements" in refused(save(m.model(y), tmp_path / "m.onnx"))


def with_external(model: onnx.ModelProto, location: str, **told: str) -> onnx.ModelProto:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in {"location": location, **told}.items():
        tensor.external_data.add(key=key, value=value)
    return model


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", "..\\secret.bin", ""]
)
def test_external_data_outside_the_folder_are_refused(
    copied: onnx.ModelProto, tmp_path: Path, location: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    message = refused(save(with_external(copied, location), folder / "m.onnx"))
    assert "folder" in message
    assert sorted(p.name for p in folder.iterdir()) == ["m.onnx"]


def test_a_link_that_leads_outside_is_refused(copied: onnx.ModelProto, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    (folder / "data.bin").symlink_to(tmp_path / "secret.bin")
    assert "outside the model's folder" in refused(
        save(with_external(copied, "data.bin"), folder / "m.onnx")
    )


def test_external_data_beside_the_model_are_taken_and_their_length_is_checked(
    copied: onnx.ModelProto, tmp_path: Path
) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(3 * 24 * 9 * 4))
    path = save(
        with_external(copied, "data.bin", offset="0", length=str(3 * 24 * 9 * 4)), tmp_path / "m.onnx"
    )
    assert read_model(path).shapes["w0"] == (24, 3, 3, 3)
    short = save(
        with_external(copied, "data.bin", offset="8", length=str(3 * 24 * 9 * 4)), tmp_path / "m.onnx"
    )
    assert "beyond the end" in refused(short)
    assert "is no file" in refused(save(with_external(copied, "other.bin"), tmp_path / "m.onnx"))
    assert "whole number" in refused(
        save(with_external(copied, "data.bin", offset="-1"), tmp_path / "m.onnx")
    )


def test_shapes_that_contradict_each_other_are_refused(maker: Any, tmp_path: Path) -> None:
    m = maker((1, 8))
    y = m.op("Add", "x", m.constant(np.ones((3, 5), np.float32)))
    assert "contradict" in refused(save(m.model(y), tmp_path / "m.onnx"))


def test_what_hangs_on_no_input_is_folded_and_fixed_shapes_are_constants(
    maker: Any, tmp_path: Path
) -> None:
    m = maker((2, 3, 4, 4))
    batch = m.op("Gather", m.op("Shape", "x"), m.constant(np.int64(0)), axis=0)
    shape = m.op("Concat", m.op("Unsqueeze", batch, m.constant(np.array([0]))),
                 m.constant(np.array([-1])), axis=0)  # fmt: skip
    y = m.op("Relu", m.op("Reshape", "x", shape))
    model = read_model(save(m.model(y), tmp_path / "m.onnx"))
    assert [node.kind for node in model.nodes] == ["Reshape", "Relu"]
    assert model.shapes[y] == (2, 48)


def test_parts_of_another_element_type_were_once_priced_from_rows_of_the_first(
    maker: Any, tmp_path: Path
) -> None:
    m = maker((1, 16, 8, 8))
    half = m.op("Cast", "x", to=TensorProto.FLOAT16)
    weight = m.constant(np.ones((16, 16, 3, 3), np.float16))
    model = m.model(m.op("Cast", m.op("Conv", half, weight), to=TensorProto.FLOAT))
    told = refused(save(model, tmp_path / "m.onnx"))
    assert "'Cast' (Cast_t0) computes in float16, the model's first input is float32" in told


@pytest.mark.parametrize("groups", [0, -1, 5, "a"])
def test_a_convolution_that_no_runtime_takes_was_once_a_traceback_or_priced(
    maker: Any, tmp_path: Path, groups: Any
) -> None:
    m = maker((1, 16, 8, 8))
    weight = m.constant(np.ones((16, 16, 3, 3), np.float32))
    model = m.model(m.op("Conv", "x", weight, group=groups))
    assert "'Conv' (Conv_t0)" in refused(save(model, tmp_path / "m.onnx"))


def test_an_operator_without_a_named_result_was_once_a_traceback(maker: Any, tmp_path: Path) -> None:
    m = maker((1, 16))
    made = m.model(m.op("Relu", "x"))
    made.graph.node.append(helper.make_node("Relu", ["x"], [""], name="lost"))
    assert "'Relu' (lost) gives nothing that has a name" in refused(save(made, tmp_path / "m.onnx"))


def test_a_file_of_100_bytes_once_took_all_memory(maker: Any, tmp_path: Path) -> None:
    m = maker((1,))
    long = m.op("ConstantOfShape", m.constant(np.array([2_000_000_000])))
    model = m.model(m.op("Add", long, "x"))
    told = refused(save(model, tmp_path / "m.onnx"))
    assert "is one row of 2000000000 numbers; at most 1048576 are taken" in told
