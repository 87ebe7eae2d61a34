"""FP16 and INT8 files of the demo's models, made and gated by real pytest runs."""

from __future__ import annotations

import re
from typing import Any

import onnx
import pytest

from pillsnap.core.hashes import VERSION_TAG
from tests.e2e.demo_project import DemoProject


@pytest.fixture
def small(project: DemoProject) -> DemoProject:
    project.settings["export"]["compare"].update(sample_count=16, batch_size=8, shard_size=8)
    project.write_config()
    return project


def cells(project: DemoProject) -> dict[str, dict[str, Any]]:
    return {cell["id"]: cell for cell in project.report()["cells"]}


def test_both_precisions_of_both_stages_are_made_once_and_hold(small: DemoProject) -> None:
    small.settings["export"]["quantize"].update(calibration_images=16)
    small.write_config()
    options = ("--precision", "fp16", "--precision", "int8", "-n", "2", "-q")
    done = small.run("pytest", "-m", "smoke", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = cells(small)
    assert len(found) == 4
    for name, cell in found.items():
        made, precision = cell["quantized"], cell["precision"]
        assert cell["verdict"] == "within_tolerance", name
        assert cell["profile"] == made["precision"] == precision
        assert made["method"] == ("static" if precision == "int8" else "")
        assert made["calibration_images"] == (16 if precision == "int8" else 0)
        assert made["nodes_low"] > 0
        proven = cell["execution"]["precision"]
        assert proven["compute_nodes_by_type"][precision] == made["nodes_low"]
        assert proven["compute_nodes"] == made["nodes_low"] + made["nodes_float"]
        assert (
            f"{precision}{' static' if precision == 'int8' else ''}: {made['nodes_low']} nodes"
            in (done.stdout)
        )
        # Made by one of the two workers, out of an export that this run did not judge.
        stem = f"{cell['stage']}-*-{precision}{'-static' if precision == 'int8' else ''}.onnx"
        (file,) = small.out_dir.glob(stem)
        tag = re.match(rf"{cell['stage']}-{VERSION_TAG}", file.name)
        assert tag is not None
        whole = small.out_dir / f"{tag[0]}.onnx"
        assert not (small.out_dir / f"latest_{cell['stage']}.onnx").exists()
        assert file.stat().st_size == made["size_bytes"] < 0.6 * whole.stat().st_size
        assert file.name.startswith(whole.stem)
    float16 = onnx.load(next(small.out_dir.glob("classification-*-fp16.onnx")))
    kinds = {tensor.data_type for tensor in float16.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


def test_an_int8_file_is_no_fp32_candidate(small: DemoProject) -> None:
    options = ("--precision", "int8", "--int8-method", "dynamic", "-q")
    done = small.run("pytest", "-m", "smoke", "--stage", "classification", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = small.out_dir.glob("*-int8-dynamic.onnx")
    done = small.run(
        "pytest",
        "-m",
        "smoke",
        "-q",
        "--stage",
        "classification",
        f"--candidate=classification={file}",
    )
    assert done.returncode == 1
    cell = cells(small)["classification-onnx-auto-fp32-smoke"]
    assert cell["verdict"] == "breach"
    assert cell["looser_profile"] in ("practical", "fp16", "int8")
    assert "note: classification: the candidate is not in float32" in done.stdout


def test_what_is_verified_cannot_calibrate(small: DemoProject) -> None:
    # All photos are verified, so none is left.
    options = ("--stage", "classification", "--precision", "int8", "-q")
    done = small.run("pytest", "-m", "full", *options)
    assert done.returncode == 1
    cell = cells(small)["classification-onnx-auto-int8-full"]
    assert cell["verdict"] == "inconclusive"
    for part in ("too few validation images are left", "0 images that are not verified", "64"):
        assert part in cell["reason"]
    assert "Traceback" not in done.stdout + done.stderr
    # A set of its own helps, as the demo has one.
    folder = small.images.parents[1] / "demo_calibration" / "single"
    small.settings["data"]["calibration"] = {"single": str(folder)}
    small.write_config()
    done = small.run("pytest", "-m", "full", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cells(small)["classification-onnx-auto-int8-full"]["samples"] == 480


@pytest.mark.slow
def test_auto_brings_a_detector_with_a_quantised_head_back(small: DemoProject) -> None:
    small.settings["export"]["quantize"].update(nodes_to_exclude=[], calibration_images=16)
    small.write_config()
    options = ("--stage", "detection", "--precision", "int8", "-q")
    assert small.run("pytest", "-m", "smoke", *options).returncode == 1
    static = cells(small)["detection-onnx-auto-int8-smoke"]
    assert static["verdict"] == "breach"
    done = small.run("pytest", "-m", "smoke", *options, "--int8-method", "auto")
    assert done.returncode == 0, done.stdout + done.stderr
    auto = cells(small)["detection-onnx-auto-int8-smoke"]
    assert auto["verdict"] == "within_tolerance"
    assert auto["quantized"]["freed"]
    assert auto["quantized"]["nodes_low"] > 0


def test_the_dynamo_exporter_holds_in_all_precisions(small: DemoProject) -> None:
    small.settings["export"].update(exporter="dynamo", opset=18)
    small.write_config()
    options = [word for name in ("fp32", "fp16", "int8") for word in ("--precision", name)]
    done = small.run("pytest", "-m", "smoke", "-q", "--stage", "classification", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {cell["precision"]: cell["verdict"] for cell in cells(small).values()}
    assert verdicts == {
        "fp32": "equivalent",
        "fp16": "within_tolerance",
        "int8": "within_tolerance",
    }
    model = onnx.load(small.out_dir / "latest_classification.onnx")
    assert model.opset_import[0].version == 18
    assert small.report()["opset"] == 18
    # Nothing of the machine it was made on.
    assert str(small.path).encode() not in model.SerializeToString()
    assert b"site-packages" not in model.SerializeToString()
