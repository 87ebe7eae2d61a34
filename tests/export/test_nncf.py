"""INT8 by NNCF: graphs of OpenVINO's own, made once, told by their metadata."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError, EngineMissing, ExportError
from pillsnap.core.modelfiles import model_files, sha256_model
from pillsnap.engines import find_entry
from pillsnap.engines.onnxruntime.sessions import open_session
from pillsnap.engines.openvino.engine import open_for_use
from pillsnap.export import Exported, describe_model, export_onnx
from pillsnap.export.provenance import has_claims, require_fit
from pillsnap.export.quantize import (
    Calibration,
    describe_quantized,
    quantize_once,
    require_opened,
)
from pillsnap.export.quantize.int8_openvino import no_telemetry
from tests.small_models import Experiment


def noise(path: Path) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(int(path.name)).random((3, 64, 64), np.float32)
    return found


CALIBRATION = Calibration(tuple(map(Path, "1234")), noise, "0" * 64)


def quantize(config: Config, source: Exported, stage: str, **options: Any) -> Exported:
    given = {"method": "nncf", "calibration": CALIBRATION, **options}
    return quantize_once(config, stage, source, "int8", **given)


def test_a_detector_is_quantised_but_for_its_head(
    experiment: Experiment, capfd: pytest.CaptureFixture[str]
) -> None:
    config = experiment("yolo11n", image=(64, 64))
    source = export_onnx(config, "detection")
    made = quantize(config, source, "detection")
    assert capfd.readouterr() == ("", "")
    told = describe_quantized(made)
    assert told is not None
    assert {name.split("/")[1] for name in told["float_nodes"]} == {"model.23"}
    engine = open_for_use(made, "int8", "cpu", 1)
    counts = engine.info["precision"]["compute_nodes_by_type"]
    assert counts["int8"] > 50 and set(counts) == {"fp32", "int8"}
    batch = np.stack([noise(Path("9")), noise(Path("8"))])
    right = open_session(source.path, "cpu", 1).run(batch)
    found = engine.run(batch)
    assert found.shape == right.shape
    assert 0 < np.abs(found - right)[..., 4].mean() < 0.05


def test_it_is_made_once_and_says_what_of(experiment: Experiment, tmp_path: Path) -> None:
    stage, marker = "classification", tmp_path / "marker.json"
    config = experiment(backbone="test_resnet")
    source = export_onnx(config, stage)
    made = quantize(config, source, stage, marker=marker)
    assert made.path.name == f"{source.path.stem}-int8-nncf.xml"
    told = describe_quantized(made)
    assert told is not None
    assert (told["method"], told["calibration_images"]) == ("nncf", 4)
    assert (told["nodes_low"], told["nodes_float"]) == (16, 0)
    assert told["source_sha256"] == source.sha256
    assert told["size_bytes"] == sum(each.stat().st_size for each in model_files(made.path))
    again = describe_model(made.path, stage)
    assert has_claims(again) and again.sha256 == made.sha256 == sha256_model(made.path)
    require_fit(again, config, stage)
    assert not quantize(config, source, stage, marker=marker).reused
    later = quantize(config, source, stage)
    assert (later.path, later.reused) == (made.path, True)
    some = [node.name for node in onnx.load(source.path).graph.node if node.op_type == "Conv"][:1]
    other = quantize(config, source, stage, exclude=some)
    assert other.path.name == f"{source.path.stem}-int8-nncf-2.xml"
    told = describe_quantized(other)
    assert told is not None
    assert told["nodes_float"] == 1
    # Not with other weights than it was written with.
    weights = model_files(made.path)[1]
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    assert quantize(config, source, stage).path.name == f"{source.path.stem}-int8-nncf-3.xml"


def test_what_cannot_be_done_is_a_message(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = "classification"
    config = experiment(backbone="test_resnet")
    source = export_onnx(config, stage)
    with pytest.raises(ExportError, match="has no node of this name"):
        quantize(config, source, stage, exclude=["gone"])
    with pytest.raises(ConfigError, match="needs images to calibrate on"):
        quantize(config, source, stage, calibration=None)
    require_opened("nncf", find_entry("openvino"))
    require_opened("static", find_entry("onnx"))
    with pytest.raises(ConfigError, match="engine onnx does not open") as refused:
        require_opened("nncf", find_entry("onnx"))
    assert "--engine openvino" in str(refused.value)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EngineMissing, match="nncf is not installed"):
        quantize(config, source, stage)


def test_nncf_does_not_find_what_tells_its_makers_of_every_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "openvino_telemetry"
    for known in (None, ModuleType(name)):
        monkeypatch.delitem(sys.modules, name, raising=False)
        if known is not None:
            monkeypatch.setitem(sys.modules, name, known)
        with no_telemetry(), pytest.raises(ImportError):
            import_module(name)
        assert sys.modules.get(name) is known
