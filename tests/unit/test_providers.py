"""Providers of ONNX Runtime: what is asked for, what is refused, and a real session."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pillsnap.engines import providers
from pillsnap.engines.onnx_engine import OnnxEngine, infer_onnx, open_session
from pillsnap.engines.providers import check_provider, select_onnx_providers
from pillsnap.errors import EngineError

if TYPE_CHECKING:
    import onnx

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

HAS_GPU = providers.has_nvidia_driver()


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
        ("tensorrt", [CUDA, CPU], ["provider tensorrt", TENSORRT, "libnvinfer.so.10", "pip inst"]),
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
    assert session.get_providers() == [CPU]
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    for count in (1, 5):
        output = infer_onnx(session, batch_of(count))
        assert output.dtype == np.float32
        np.testing.assert_array_equal(output, 2 * batch_of(count))
    engine = OnnxEngine(session, {"path": "double.onnx"})
    assert engine.info == {"path": "double.onnx", "providers": [CPU]}
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
    assert session.get_providers() == [CPU]


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
    np.testing.assert_array_equal(infer_onnx(session, batch_of(2)), 2 * batch_of(2))
    with pytest.raises(EngineError) as caught:
        infer_onnx(session, batch_of(3))
    message = str(caught.value)
    for part in ("cannot run this batch", "images [2, 3, 4, 4]", "[3, 3, 4, 4]", "dynamic_axes"):
        assert part in message
    with pytest.raises(EngineError, match="cannot run this batch"):
        infer_onnx(session, batch_of(2)[..., :3].copy())
