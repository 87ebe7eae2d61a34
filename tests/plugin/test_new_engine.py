"""An engine of one file: what its entry says is all that the gate has to know of it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pillsnap.core.hashes import sha256_file
from tests.plugin import evaluator_engine
from tests.plugin.numpy_engine import COLOURS
from tests.plugin.project import Project

CLASSIFIER = ("-m", "smoke", "--engine", "evaluator", "--stage", "classification")
CELL = "classification-evaluator-vpu-{}-smoke"


@pytest.fixture
def shop(project: Project) -> Project:
    """A project of photos with a file of the numpy engine's classifier, model.onnx."""
    (project.path / "conftest.py").write_text(
        (project.path / "conftest.py").read_text()
        + "from tests.plugin.evaluator_engine import register_evaluator\nregister_evaluator()\n"
    )
    save_classifier(project.path / "model.onnx", COLOURS)
    return project


def save_classifier(path: Path, colours: np.ndarray) -> None:
    """[N,3,H,W] -> [N,4]: the same as the numpy engine's, in ONNX's nodes."""
    constants = {"axis": np.array([1]), "colours": colours, "scale": np.float32(-20)}
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["rows"]),
        helper.make_node("Sub", ["rows", "colours"], ["apart"]),
        helper.make_node("ReduceSumSquare", ["apart"], ["squares"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["squares", "scale"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_it_is_one_short_file() -> None:
    assert len(Path(evaluator_engine.__file__).read_text().splitlines()) <= 60


def test_it_verifies_the_file_that_the_gate_chose(shop: Project) -> None:
    model = shop.path / "model.onnx"
    named = f"--candidate=classification={model}"
    result = shop.run(*CLASSIFIER, named, engine=None)
    assert result.ret == 0, result.stdout.str()
    report = shop.report()
    (cell,) = report["cells"]
    assert (cell["id"], cell["verdict"]) == (CELL.format("fp32"), "equivalent")
    # What the file is, the gate says: the engine only opens it.
    assert report["onnx_path"] == str(model)
    (approval,) = report["gate"]["approvals"]
    assert approval["sha256"] == sha256_file(model)
    assert report["providers"] == ["evaluator:numpy"]
    packages = report["environment"]["packages"]
    assert packages["protobuf"] == version("protobuf")
    assert packages["vpu-driver"] is None
    assert {"pillsnap", "torch", "onnxruntime"} <= packages.keys()
    # Its one provider goes without saying, and is not ONNX Runtime's to diagnose.
    assert "--provider" not in report["provenance"]["command"]
    assert cell["diagnosis"] is None

    save_classifier(model, COLOURS * np.float32(1.1))
    assert shop.run(*CLASSIFIER, named, "--provider", "vpu", engine=None).ret == 1
    (cell,) = shop.report()["cells"]
    assert (cell["verdict"], cell["diagnosis"]) == ("breach", None)


def test_what_it_refuses_is_said_in_its_own_words(shop: Project) -> None:
    named = f"--candidate=classification={shop.path / 'model.onnx'}"
    result = shop.run(*CLASSIFIER, named, "--precision", "fp16", engine=None)
    assert result.ret == 1
    (cell,) = shop.report()["cells"]
    assert cell["verdict"] == "inconclusive"
    assert cell["reason"].startswith("the evaluator computes in fp32 alone")
    assert CELL.format("fp16") in cell["reason"]
    assert "the evaluator computes in fp32 alone" in result.stdout.str()


def test_what_it_needs_and_is_not_there_is_not_measured(shop: Project) -> None:
    with (shop.path / "conftest.py").open("a") as file:
        file.write(
            "import tests.plugin.evaluator_engine as evaluator\n"
            'evaluator.PACKAGES["protobuf"] = ("no-such-distribution",)\n'
        )
    result = shop.run(*CLASSIFIER, "-rs", engine=None)
    assert result.ret == 1
    assert shop.report()["gate"]["unmeasured"] == [CELL.format("fp32")]
    assert "the evaluator needs protobuf" in result.stdout.str()


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (("--engine", "evaluator", "--provider", "cpu"), "engine evaluator runs on provider vpu"),
        (("--engine", "evaluator", "--provider", "npu"), "use --engine openvino --provider npu"),
        (("--engine", "evaluator", "--provider", "xpu"), "cuda, tensorrt, gpu, npu, vpu"),
    ],
)
def test_its_provider_is_known_where_options_are_read(
    shop: Project, options: tuple[str, ...], refusal: str
) -> None:
    result = shop.run("-m", "smoke", *options, engine=None)
    assert result.ret == 4
    assert refusal in result.stderr.str()


def test_a_provider_of_another_engine_is_refused(shop: Project) -> None:
    result = shop.run(
        "-m", "smoke", "--stage", "classification", "--engine", "numpy", "--provider", "vpu",
        engine=None,
    )  # fmt: skip
    assert result.ret == 1
    (cell,) = shop.report()["cells"]
    assert cell["reason"].startswith("engine numpy does not run on provider vpu")
    assert "expected: auto, cpu" in cell["reason"]
