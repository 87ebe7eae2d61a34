"""Crafted .onnx files: what is hashed is what runs, and nothing else is read."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.compare.outcome import Outcome
from pillsnap.core.errors import EngineError
from pillsnap.core.hashes import sha256_file
from pillsnap.engines.onnxruntime.sessions import open_in_memory, open_session
from pillsnap.export import describe_onnx, read_onnx, read_with_weights
from pillsnap.export.safety import embed_weights
from pillsnap.gate.same_file import find_mixup
from pillsnap.infer.standalone import freeze

SHAPE = [3, 2]
VALUES = np.arange(6, dtype=np.float32).reshape(SHAPE)
OURS = helper.make_opsetid("ours", 1)


def external(location: str | bytes = "w.bin", **entries: str) -> TensorProto:
    """The weights w, in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=SHAPE)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def make(
    tensor: TensorProto | None = None, nodes: list[onnx.NodeProto] | None = None
) -> onnx.ModelProto:
    """A classifier of two classes: the mean of each channel times w."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)
    weights = [tensor or numpy_helper.from_array(VALUES, "w")] if nodes is None else []
    nodes = nodes or []
    graph = helper.make_graph(
        [mean, *nodes, helper.make_node("MatMul", ["m", "w"], ["y"])],
        "g",
        [image],
        [logits],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), OURS])
    model.ir_version = 10
    return model


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    VALUES.tofile(folder / "w.bin")
    return path


def with_function(
    body: list[onnx.NodeProto], defaults: list[onnx.AttributeProto]
) -> onnx.ModelProto:
    model = make(nodes=[helper.make_node("F", [], ["w"], domain="ours")])
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("ours", "F", [], ["w"], body, opset, attribute_protos=defaults)
    model.functions.append(function)
    return model


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["w"], value=tensor)


def of_a_default_attribute() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["w"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, ref_attr_name="V")
    return with_function([node], [helper.make_attribute("V", external())])


def of_a_function() -> onnx.ModelProto:
    return with_function([constant(external())], [])


def of_a_constant() -> onnx.ModelProto:
    return make(nodes=[constant(external())])


def of_a_branch_of_a_function() -> onnx.ModelProto:
    out = helper.make_tensor_value_info("w", TensorProto.FLOAT, SHAPE)
    branch = helper.make_graph([], "b", [], [out], [external()])
    yes = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    node = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
    return with_function([yes, node], [])


def of_a_list_of_tensors() -> onnx.ModelProto:
    model = make()
    model.graph.node[0].attribute.append(helper.make_attribute("other", [external()]))
    return model


def of_a_sparse_tensor() -> onnx.ModelProto:
    model = make()
    model.graph.sparse_initializer.add().values.CopyFrom(external())
    return model


def of_training() -> onnx.ModelProto:
    model = make()
    model.training_info.add().initialization.initializer.append(external())
    return model


def of_a_location_alone() -> onnx.ModelProto:
    tensor = external()
    tensor.ClearField("data_location")
    return make(nodes=[constant(tensor)])


def compiled() -> onnx.ModelProto:
    model = make()
    model.graph.node.append(helper.make_node("EPContext", ["x"], ["z"], domain="com.microsoft"))
    return model


@pytest.mark.parametrize(
    "make_model",
    [
        of_a_default_attribute,
        of_a_function,
        of_a_constant,
        of_a_branch_of_a_function,
        of_a_list_of_tensors,
        of_a_sparse_tensor,
        of_training,
        of_a_location_alone,
        compiled,
    ],
)
def test_weights_elsewhere_are_found_in_every_place_of_a_file(
    make_model: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="not to be read"):
        read_onnx(saved(make_model(), tmp_path))


@pytest.mark.parametrize(
    "tensor",
    [
        external("/etc/passwd"),
        external("../w.bin"),
        external("sub/w.bin"),
        external(""),
        external("."),
        external("w.bin\0"),
        external("w.bin/"),
        external("n" * 300),
        external("missing.bin"),
        external("link.bin"),
        external("fifo.bin"),
        external("loop.bin"),
        external("*/_ORT_MEM_ADDR_/*", offset="4096", length="24"),
        external(length="25"),
        external(offset="-1"),
        external(offset="1_0"),
        external(offset="9" * 40),
        external(length="\u0664"),
    ],
    ids=lambda tensor: ascii("|".join(entry.value for entry in tensor.external_data))[1:40],
)
def test_weights_lie_beside_the_model_or_it_is_refused(tensor: TensorProto, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    VALUES.tofile(tmp_path / "w.bin")
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    os.mkfifo(folder / "fifo.bin")
    with pytest.raises(EngineError, match="not to be read"):
        read_onnx(saved(make(tensor), folder))


def test_two_locations_of_one_tensor_are_refused(tmp_path: Path) -> None:
    tensor = external("/etc/passwd")
    tensor.external_data.add(key="location", value="w.bin")
    with pytest.raises(EngineError, match="not to be read"):
        read_onnx(saved(make(tensor), tmp_path))


def test_weights_beside_a_model_are_part_of_what_was_measured(tmp_path: Path) -> None:
    path = saved(make(external()), tmp_path)
    described = describe_onnx(path, "classification")
    assert described.weights == {"w.bin": sha256_file(tmp_path / "w.bin")}
    measured = Outcome("s", candidate=described.summary())
    assert find_mixup([measured]) is None
    (VALUES + 1).tofile(tmp_path / "w.bin")
    again = Outcome("t", candidate=describe_onnx(path, "classification").summary())
    assert "w.bin was" in (find_mixup([measured]) or "")
    assert "different files" in (find_mixup([measured, again]) or "")


def test_weights_are_those_beside_the_model_not_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(make(external()), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (VALUES + 100).tofile(other / "w.bin")
    monkeypatch.chdir(other)
    image = np.ones((1, 3, 4, 4), np.float32)
    wanted = VALUES.sum(axis=0)
    found = open_session(describe_onnx(path, "classification").content(), "cpu", 1).run(image)
    assert found[0].tolist() == wanted.tolist()
    inner = open_in_memory(read_with_weights(path), 1).run(None, {"x": image})[0]
    assert inner[0].tolist() == wanted.tolist()


def test_weights_that_many_tensors_claim_are_read_no_further_than_a_model_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(external())
    for number in range(50):
        model.graph.initializer.add().CopyFrom(external())
        model.graph.initializer[-1].name = f"w{number}"
    monkeypatch.setattr("pillsnap.export.safety.MAX_BYTES", 240)
    path = tmp_path / "model.onnx"
    VALUES.tofile(tmp_path / "w.bin")
    with pytest.raises(EngineError, match="more than it can hold"):
        embed_weights(model, path)
    assert sum(len(tensor.raw_data) for tensor in model.graph.initializer) == 240


def test_the_pipeline_in_one_file_takes_no_model_whose_hash_is_not_all(tmp_path: Path) -> None:
    model = describe_onnx(saved(make(external()), tmp_path), "classification")
    with pytest.raises(EngineError, match="in one file"):
        freeze(None, {"classification": model})  # type: ignore[arg-type]  # it is not asked


def test_what_runs_is_what_was_described(tmp_path: Path) -> None:
    path = saved(make(), tmp_path)
    described = describe_onnx(path, "classification")
    assert described.content() == path.read_bytes()
    saved(make(numpy_helper.from_array(VALUES + 1, "w")), tmp_path)
    with pytest.raises(EngineError, match="changed while it was read"):
        described.content()


def test_graphs_in_graphs_without_end_are_a_message(tmp_path: Path) -> None:
    graph = b""  # onnx itself writes none so deep
    for _ in range(5000):
        for tag in (0x32, 0x2A, 0x0A):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            graph = bytes([tag]) + _varint(len(graph)) + graph
    path = saved(make(), tmp_path)
    path.write_bytes(path.read_bytes() + b"\x3a" + _varint(len(graph)) + graph)
    with pytest.raises(EngineError, match="not a whole ONNX model"):
        read_onnx(path)


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 128:
        digits.append(value % 128 + 128)
        value //= 128
    return bytes([*digits, value])


def without_shape() -> onnx.ModelProto:
    model = make()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.metadata_props.add(key="pillsnap.stage", value="classification")
    return model


def detector_without_shape() -> onnx.ModelProto:
    model = make()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.metadata_props.add(key="pillsnap.stage", value="detection")
    return model


def of_an_unknown_stage() -> onnx.ModelProto:
    model = make()
    model.metadata_props.add(key="pillsnap.stage", value="recognition")
    return model


@pytest.mark.parametrize(
    "model",
    [without_shape(), detector_without_shape(), of_an_unknown_stage()],
    ids=["without shape", "detector without shape", "unknown stage"],
)
def test_a_crafted_graph_is_a_message(model: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        describe_onnx(saved(model, tmp_path), "classification")


@pytest.mark.parametrize("text", ["abc", "nan", "inf", "-1", "", "1e999"])
def test_a_number_of_parameters_that_is_none_is_counted(text: str, tmp_path: Path) -> None:
    model = make()
    model.metadata_props.add(key="pillsnap.params_million", value=text)
    assert describe_onnx(saved(model, tmp_path), "classification").params_million == 6e-6


def test_sizes_of_astronomy_are_no_overflow(tmp_path: Path) -> None:
    model = make()
    model.graph.initializer.add(name="huge", data_type=1, dims=[2**62] * 40)
    assert describe_onnx(saved(model, tmp_path), "classification").params_million == 0


def test_text_that_is_not_utf8_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    model = make()
    model.metadata_props.add(key="pillsnap.stage", value="classification")
    data = model.SerializeToString()
    for word in (b"classification", b"ReduceMean", b"ours"):
        path = tmp_path / "model.onnx"
        path.write_bytes(data.replace(word, b"\xff" * len(word)))
        with pytest.raises(EngineError, match="not UTF-8"):
            read_onnx(path)


def test_damaged_bytes_are_read_or_refused_with_a_message(tmp_path: Path) -> None:
    data = make(external()).SerializeToString()
    path = saved(make(external()), tmp_path)
    draw = random.Random(0)
    outcomes = set()
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 1, 3, 20))):
            damaged[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(damaged[: draw.choice((len(data), draw.randrange(len(data))))])
        try:
            describe_onnx(path, "classification")
            outcomes.add("read")
        except EngineError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
