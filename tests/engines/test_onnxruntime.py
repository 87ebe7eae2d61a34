"""Providers of ONNX Runtime: what is asked for, what is refused, and a real session."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pillsnap.config.runtime import Cpu, Cuda, Runtime, Tensorrt
from pillsnap.core.errors import EngineError
from pillsnap.engines.onnxruntime import providers
from pillsnap.engines.onnxruntime.engine import OnnxEngine
from pillsnap.engines.onnxruntime.libraries import find_missing, has_nvidia_driver
from pillsnap.engines.onnxruntime.placement import COMPUTE, read_placement, require_all_compute
from pillsnap.engines.onnxruntime.providers import (
    check_options,
    check_provider,
    provider_options,
    require_loadable,
    select_onnx_providers,
)
from pillsnap.engines.onnxruntime.sessions import infer_onnx, open_session
from tests.engines.padded import image, save_padded

if TYPE_CHECKING:
    import onnx

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

HAS_GPU = has_nvidia_driver()


@pytest.fixture(params=[True, False], ids=["driver", "no-driver"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A machine with an NVIDIA driver, and one without."""
    monkeypatch.setattr(providers, "has_nvidia_driver", lambda: request.param)
    return bool(request.param)


def test_auto_takes_cuda_where_there_is_a_driver(
    driver: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = select_onnx_providers("auto")
        assert select_onnx_providers() == found
    assert found == ([CUDA, CPU] if driver else [CPU])
    # Falling back is said.
    assert ("no NVIDIA driver" in caplog.text) is not driver


def test_a_named_provider_is_asked_for_on_any_machine(driver: bool) -> None:
    assert select_onnx_providers("cpu") == [CPU]
    assert select_onnx_providers("cuda") == [CUDA, CPU]
    assert select_onnx_providers("tensorrt") == [TENSORRT, CUDA, CPU]


@pytest.mark.parametrize(
    ("provider", "actual"),
    [
        ("cpu", [CPU]),
        ("cuda", [CUDA, CPU]),
        ("tensorrt", [TENSORRT, CUDA, CPU]),
        ("auto", [CPU]),
        ("auto", [CUDA, CPU]),
    ],
)
def test_the_provider_that_runs_is_accepted(provider: str, actual: list[str], driver: bool) -> None:
    check_provider(provider, actual)


def test_auto_says_that_cuda_could_not_be_loaded(
    driver: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_provider("auto", [CUDA, CPU])
        assert caplog.text == ""
        check_provider("auto", [CPU])
    assert ("CUDA could not be loaded" in caplog.text) is driver


@pytest.mark.parametrize(
    ("provider", "actual", "parts"),
    [
        ("cuda", [CPU], ["provider cuda", CPU, CUDA, "CUDA 13", "cuDNN 9", "pip install"]),
        (
            "tensorrt",
            [CUDA, CPU],
            ["provider tensorrt", TENSORRT, "TensorRT 10.x", "CUDA 13", "pip inst"],
        ),
        ("tensorrt", [CPU], ["provider tensorrt", TENSORRT, "tensorrt-cu13"]),
        ("cpu", [CUDA, CPU], ["provider cpu", CUDA, "reinstall onnxruntime"]),
    ],
)
def test_another_provider_than_the_one_asked_for_is_refused(
    provider: str, actual: list[str], parts: list[str]
) -> None:
    with pytest.raises(EngineError) as caught:
        check_provider(provider, actual)
    for part in [*parts, "--provider auto"]:
        assert part in str(caught.value)


def save_model(path: Path, batch: str | int = "N") -> Path:
    """output = 2 * input, for images of 4 x 4 pixels."""
    from onnx import TensorProto, checker, helper, save

    shape = [batch, 3, 4, 4]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["images", "two"], ["output"])],
        "double",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    checker.check_model(model)
    save(model, str(path))
    return path


def batch_of(count: int) -> Any:
    values = np.random.default_rng(0).normal(size=(count, 3, 4, 4))
    return values.astype(np.float32)


def test_a_session_runs_on_the_cpu(tmp_path: Path) -> None:
    session = open_session(save_model(tmp_path / "double.onnx"), "cpu", 1)
    assert session.ort.get_providers() == [CPU]
    options = session.ort.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 0)
    # Its threads would take the cores from torch, whose turn it is.
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    for count in (1, 5):
        output = infer_onnx(session.ort, batch_of(count))
        assert output.dtype == np.float32
        np.testing.assert_array_equal(output, 2 * batch_of(count))
    engine = OnnxEngine(session)
    assert engine.info == session.facts()
    assert engine.info["providers"] == [CPU]
    assert engine.info["provider_options"] == {CPU: {}}
    np.testing.assert_array_equal(engine.run(batch_of(2)), 2 * batch_of(2))


@pytest.mark.skipif(HAS_GPU, reason="this machine may run it")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there_is_refused(provider: str, tmp_path: Path) -> None:
    path = save_model(tmp_path / "double.onnx")
    with pytest.raises(EngineError) as caught:
        open_session(path, provider, 1)
    assert f"provider {provider} was asked for and does not run" in str(caught.value)
    assert "NVIDIA driver" in str(caught.value)
    assert "pip install" in str(caught.value)


@pytest.mark.skipif(HAS_GPU, reason="auto takes the GPU here")
def test_auto_falls_back_to_the_cpu(tmp_path: Path) -> None:
    session = open_session(save_model(tmp_path / "double.onnx"), "auto", 1)
    assert session.ort.get_providers() == [CPU]
    assert session.placement.provider == CPU


def test_a_damaged_or_missing_file_is_an_engine_error(tmp_path: Path) -> None:
    whole = save_model(tmp_path / "double.onnx").read_bytes()
    path = tmp_path / "damaged.onnx"
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(EngineError, match=r"(?s)cannot load this model.*damaged\.onnx.*--fres"):
            open_session(path, "cpu", 1)
    with pytest.raises(EngineError, match=r"(?s)cannot load.*gone\.onnx"):
        open_session(tmp_path / "gone.onnx", "cpu", 1)


def test_a_batch_that_the_model_cannot_take_is_an_engine_error(tmp_path: Path) -> None:
    session = open_session(save_model(tmp_path / "static.onnx", batch=2), "cpu", 1)
    np.testing.assert_array_equal(session.run(batch_of(2)), 2 * batch_of(2))
    with pytest.raises(EngineError) as caught:
        session.run(batch_of(3))
    message = str(caught.value)
    for part in ("cannot run this batch", "images [2, 3, 4, 4]", "[3, 3, 4, 4]", "dynamic_axes"):
        assert part in message
    with pytest.raises(EngineError, match="cannot run this batch"):
        session.run(batch_of(2)[..., :3].copy())


def save_network(path: Path) -> Path:
    """A convolution, a matrix product and what surrounds them: [N,3,4,4] to [N,2]."""
    from onnx import TensorProto, checker, helper, save

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        return helper.make_tensor(name, TensorProto.FLOAT, shape, values.ravel())

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "w"], ["c"], name="first"),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "m"], ["output"], name="second"),
        ],
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 2])],
        [weights("w", 5, 3, 3, 3), weights("m", 5, 2)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))
    return path


def test_a_session_has_what_the_configuration_says(tmp_path: Path) -> None:
    import onnxruntime as ort

    path = save_network(tmp_path / "network.onnx")
    runtime = Runtime("ORT_ENABLE_BASIC", cpu=Cpu(inter_op_num_threads=3))
    options = open_session(path, "cpu", 2, runtime).ort.get_session_options()
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 3)
    default = open_session(path, "cpu", 1).ort.get_session_options()
    assert default.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL


def test_an_optimizer_that_is_off_changes_nothing(tmp_path: Path) -> None:
    path = save_padded(tmp_path / "padded.onnx")
    right = open_session(path, "cpu", 1, Runtime("ORT_DISABLE_ALL")).run(image())
    assert np.abs(open_session(path, "cpu", 1).run(image()) - right).max() > 0.1
    off = Runtime(disabled_optimizers=("Pad_Fusion", "PadFusion"))
    assert np.abs(open_session(path, "cpu", 1, off).run(image()) - right).max() < 1e-5


def test_options_are_those_of_the_configuration() -> None:
    runtime = Runtime(
        cuda=Cuda(device_id=1, cudnn_conv_use_max_workspace=0),
        tensorrt=Tensorrt(device_id=1, trt_engine_cache_path=Path("/cache")),
    )
    found = provider_options(runtime)
    assert found[CPU] == {}
    # TF32 is off whatever the configuration says.
    assert found[CUDA] == {"device_id": "1", "cudnn_conv_use_max_workspace": "0", "use_tf32": "0"}
    assert found[TENSORRT] == {
        "device_id": "1",
        "trt_max_workspace_size": str(8 * 2**30),
        "trt_max_partition_iterations": "1000",
        "trt_min_subgraph_size": "1",
        "trt_fp16_enable": "1",
        "trt_int8_enable": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "/cache",
    }


@pytest.mark.parametrize(
    ("precision", "fp16", "int8"),
    [("fp32", "0", "0"), ("fp16", "1", "0"), ("int8", "0", "1"), (None, "1", "0")],
)
def test_tensorrt_computes_in_the_precision_of_the_cell(
    precision: str | None, fp16: str, int8: str
) -> None:
    found = provider_options(Runtime(), precision)[TENSORRT]
    assert (found["trt_fp16_enable"], found["trt_int8_enable"]) == (fp16, int8)


@pytest.mark.parametrize("actual", ["1", "True"])
def test_options_that_read_back_are_reported(actual: str) -> None:
    read_back = {CUDA: {"use_tf32": actual, "device_id": "0", "more": "2"}, CPU: {}}
    requested = {CUDA: {"use_tf32": "1", "device_id": "0"}, TENSORRT: {"device_id": "7"}, CPU: {}}
    assert check_options(requested, read_back) == {
        CUDA: {"use_tf32": actual, "device_id": "0"},
        CPU: {},
    }


@pytest.mark.parametrize(
    ("read_back", "got"), [({"use_tf32": "1"}, "1"), ({}, "nothing reads back")]
)
def test_an_option_that_does_not_read_back_is_refused(read_back: dict[str, str], got: str) -> None:
    with pytest.raises(EngineError) as caught:
        check_options({CUDA: {"use_tf32": "0"}}, {CUDA: read_back})
    message = " ".join(str(caught.value).split())
    for part in (CUDA, "use_tf32", f"got: {got}", "expected: 0"):
        assert part in message


def test_a_real_session_refuses_what_it_did_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU takes an option that it does not have, and says nothing."""
    path = save_network(tmp_path / "network.onnx")
    wanted = {CPU: {"use_arena": "0"}, CUDA: {}, TENSORRT: {}}
    monkeypatch.setattr("pillsnap.engines.onnxruntime.sessions.provider_options", lambda *_: wanted)
    with pytest.raises(EngineError, match=r"(?s)CPUExecutionProvider.*use_arena.*nothing reads"):
        open_session(path, "cpu", 1)


def test_compute_nodes_are_counted_where_they_run(tmp_path: Path) -> None:
    session = open_session(save_network(tmp_path / "network.onnx"), "cpu", 1)
    assert session.placement.as_dict() == {
        "provider": CPU,
        "compute_nodes": 2,
        "compute_nodes_on_provider": 2,
        "compute_nodes_by_provider": {CPU: 2},
        "other_ops_elsewhere": {},
    }
    require_all_compute(session.placement)


def test_compute_that_went_elsewhere_is_refused_and_listed(tmp_path: Path) -> None:
    """A real session, asked whether another provider than its own computes the model."""
    session = open_session(save_network(tmp_path / "network.onnx"), "cpu", 1)
    placement = read_placement(session.ort, CUDA)
    assert placement.misplaced == (f"first ({CPU})", f"second ({CPU})")
    assert placement.elsewhere == {"Relu": 1, "GlobalAveragePool": 1, "Flatten": 1}
    with pytest.raises(EngineError) as caught:
        require_all_compute(placement)
    for part in (CUDA, "0 of 2 compute nodes", f"first ({CPU}), second ({CPU})"):
        assert part in str(caught.value)


def test_all_forms_of_compute_are_known() -> None:
    """What quantisers, float16 and ONNX Runtime's fusions make of convolutions and products."""
    assert {"Conv", "ConvInteger", "QLinearConv", "FusedConv", "NhwcConv"} <= COMPUTE
    assert {"Gemm", "QGemm", "MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"} <= COMPUTE
    assert not COMPUTE & {"Relu", "Sigmoid", "Shape", "QuantizeLinear", "Cast", "Resize"}


@pytest.mark.skipif(HAS_GPU, reason="this machine may run it")
@pytest.mark.parametrize(
    ("provider", "library"), [("cuda", "libcuda.so.1"), ("tensorrt", "libnvinfer.so.10")]
)
def test_missing_libraries_are_named_before_a_model_is_made(
    provider: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    missing = find_missing(provider)
    # What pip installed of CUDA and cuDNN was found: the driver is missing, and TensorRT alone.
    assert missing == list(dict.fromkeys((library, "libcuda.so.1")))
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    runtime = Runtime(tensorrt=Tensorrt(trt_engine_cache_path=tmp_path / "cache"))
    with pytest.raises(EngineError) as caught:
        require_loadable(provider, runtime)
    for part in (f"provider {provider} was asked for", library, "CUDA 13", "pip install"):
        assert part in str(caught.value)


@pytest.mark.parametrize("provider", ["auto", "cpu"])
def test_providers_that_need_no_gpu_are_not_refused(provider: str) -> None:
    require_loadable(provider, Runtime())


def test_a_folder_that_cannot_keep_engines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "cache"
    runtime = Runtime(tensorrt=Tensorrt(trt_engine_cache_path=folder))
    with pytest.raises(EngineError) as caught:
        require_loadable("tensorrt", runtime)
    for part in ("engines cannot be kept", str(folder), "trt_engine_cache_enable: false"):
        assert part in str(caught.value)
