"""OpenVINO: real models compiled here, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from pillsnap.config.runtime import Runtime
from pillsnap.core.errors import EngineError
from pillsnap.core.modelfiles import sha256_model
from pillsnap.engines import Batch
from pillsnap.engines.layouts import LAYOUTS
from pillsnap.engines.layouts.records import Reading
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.openvino import engine as engine_module
from pillsnap.engines.openvino.engine import (
    OpenvinoAlone,
    OpenvinoEngine,
    compile_model,
    open_for_use,
    require_as_asked,
)
from pillsnap.engines.openvino.proof import Computed
from tests.engines.test_onnxruntime import save_network

CAPABILITIES = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
HAS_BF16, HAS_FP16 = "BF16" in CAPABILITIES, "FP16" in CAPABILITIES


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("openvino") / "network.onnx")


def images(count: int, size: int = 4) -> Batch:
    return np.random.default_rng(1).normal(size=(count, 3, size, size)).astype(np.float32)


def test_it_answers_as_onnx_runtime_does(network: Path) -> None:
    ours = compile_model(network.read_bytes(), "cpu", 1, "fp32", where=network)
    session = open_session(network, "cpu", 1, Runtime(), "fp32")
    for count in (1, 3):
        batch = images(count)
        np.testing.assert_allclose(ours.run(batch), session.run(batch), rtol=1e-5, atol=1e-6)
    first, kept = ours.run(images(1)), ours.run(images(2))
    assert first.shape == (1, 2)
    np.testing.assert_array_equal(kept, ours.run(images(2)))  # no answer lies in another's memory


def test_what_it_computes_in_is_read_from_the_compiled_graph(network: Path) -> None:
    compiled = compile_model(network, "auto", 1, "fp32")
    info = OpenvinoEngine(compiled, OpenvinoAlone(network, "auto", 1, "fp32")).info
    assert info["providers"] == ["OpenVINO CPU"]
    assert info["placement"]["compute_nodes_on_provider"] == 2
    assert info["precision"]["compute_nodes_by_type"] == {"fp32": 2}
    assert info["provider_options"]["OpenVINO CPU"] == {
        "INFERENCE_NUM_THREADS": "1",
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": "1",
    }
    assert compiled.inputs.shape == (None, 3, 4, 4)


@pytest.mark.parametrize("hint", ["bf16", "f16"])
def test_bfloat16_in_the_place_of_a_precision_is_refused(
    network: Path, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision = "fp32" if hint == "bf16" else "fp16"
    monkeypatch.setitem(engine_module.HINTS, precision, hint)
    if not HAS_BF16:  # the plugin computes in float32 then, whatever it is told
        assert compile_model(network, "cpu", 1, precision).computed.by_type == {"fp32": 2}
        return
    with pytest.raises(EngineError, match=f"not compute in {precision} on CPU") as refused:
        compile_model(network, "cpu", 1, precision)
    assert "2 compute nodes in bf16" in str(refused.value)


@pytest.mark.parametrize("devices", [["GPU.0"], ["CPU", "GPU.1"], ["CPU", "CPU"], []])
def test_a_model_that_runs_elsewhere_is_refused(devices: list[str]) -> None:
    computed = Computed({"fp32": 2, "int8": 1})
    require_as_asked(["CPU"], computed, "CPU", "fp32", None)  # the file's own int8
    with pytest.raises(EngineError, match="not compute in fp32 on CPU") as refused:
        require_as_asked(devices, computed, "CPU", "fp32", None)
    assert ", ".join(devices) in str(refused.value)


def test_sizes_that_the_file_does_not_declare_are_refused(network: Path) -> None:
    compiled = compile_model(network, "cpu", 1, "fp32")
    with pytest.raises(EngineError, match="does not take this batch") as refused:
        compiled.run(images(1, size=5))
    assert "[1, 3, 5, 5]" in str(refused.value)
    assert "['?', 3, 4, 4]" in str(refused.value)


@dataclass
class File:
    """A file as an engine is given it."""

    path: Path
    sha256: str

    def content(self) -> Path:
        return self.path


def save_ir(source: Path, path: Path, *, half: bool = False) -> File:
    """A model as a graph of OpenVINO's own."""
    openvino.save_model(openvino.Core().read_model(str(source)), str(path), compress_to_fp16=half)
    return File(path, sha256_model(path))


def test_a_graph_of_its_own_is_run_from_the_bytes_that_were_hashed(
    network: Path, tmp_path: Path
) -> None:
    file = save_ir(network, tmp_path / "network.xml")
    own = open_for_use(file, "fp32", "cpu", 1)
    right = compile_model(network, "cpu", 1, "fp32").run(images(3))
    np.testing.assert_array_equal(own.run(images(3)), right)
    weights = tmp_path / "network.bin"
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    assert sha256_model(file.path) != file.sha256
    with pytest.raises(EngineError, match="changed while it was read"):
        open_for_use(file, "fp32", "cpu", 1)
    weights.unlink()
    with pytest.raises(EngineError, match="cannot read the model") as refused:
        open_for_use(file, "fp32", "cpu", 1)
    assert "network.xml and network.bin in one folder" in str(refused.value)


def test_weights_in_half_precision_are_told_from_arithmetic(network: Path, tmp_path: Path) -> None:
    file = save_ir(network, tmp_path / "half.xml", half=True)
    compiled = compile_model(file.path, "cpu", 1, "fp32")
    assert compiled.computed.lowered_to({"fp16", "bf16"}) == {}
    precision = compiled.computed.facts("OpenVINO CPU")["precision"]
    assert precision["compute_nodes_by_type"]["fp16"] == precision["weight_only_nodes"] > 0
    if not HAS_FP16:  # which would make bfloat16 of it
        as_half = compile_model(file.path, "cpu", 1, "fp16")
        assert as_half.options["INFERENCE_PRECISION_HINT"] == "f32"
        np.testing.assert_array_equal(as_half.run(images(1)), compiled.run(images(1)))


def save_odd(path: Path, kind: int, shape: list[str | int]) -> Path:
    """A model that gives its images twice, as they are and negated."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])],
        "odd",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, shape) for name in "ab"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_images_are_fed_as_the_file_takes_them_and_outputs_read_by_layout(
    tmp_path: Path, kind: int
) -> None:
    path = save_odd(tmp_path / "odd.onnx", kind, [2, 4, 4, 3])
    engine = open_for_use(File(path, ""), "fp32", "cpu", 1)
    batch = images(3)
    rounded = batch.astype(helper.tensor_dtype_to_np_dtype(kind)).astype(np.float32)
    assert engine.input_shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(engine.run(batch), rounded.transpose(0, 2, 3, 1))
    assert {name: each.shape for name, each in engine.outputs(batch[:1]).items()} == {
        "a": (2, 4, 4, 3),
        "b": (2, 4, 4, 3),
    }
    (logits,) = (each for each in LAYOUTS if each.name == "logits")
    engine.read_by(Reading(logits, ("b",)))
    flat = -rounded.transpose(0, 2, 3, 1).reshape(3, -1)
    np.testing.assert_array_equal(engine.run(batch), flat)


def test_images_are_fed_to_no_model_of_whole_numbers(tmp_path: Path) -> None:
    path = save_odd(tmp_path / "odd.onnx", TensorProto.INT32, ["n", 3, 4, 4])
    with pytest.raises(EngineError, match="takes no images as they are fed") as refused:
        compile_model(path, "cpu", 1, "fp32").run(images(1))
    assert "input of int32" in str(refused.value)


def test_what_cannot_be_compiled_says_why(network: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no device NPU here") as refused:
        compile_model(network, "npu", 1, "fp32")
    assert "CPU" in str(refused.value)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(EngineError, match="cannot compile this model") as refused:
        compile_model(broken.read_bytes(), "cpu", 1, "fp32", where=broken)
    assert str(broken) in str(refused.value)
    assert "Exception from" not in str(refused.value)


def test_it_is_timed_in_a_process_of_its_own(network: Path) -> None:
    found = OpenvinoAlone(network, "cpu", 1, "fp32").measure(images(1))
    assert len(found.seconds) >= 5
    assert found.peak_memory_mib is not None
    assert 10 < found.peak_memory_mib < 400
    gone = OpenvinoAlone(network.with_name("gone.onnx"), "cpu", 1, "fp32").measure(images(1))
    assert "cannot compile this model" in str(gone.problem)
