"""/reload: what is refused, why, and that the old models serve on."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from starlette.testclient import TestClient

from pillsnap.core.hashes import sha256_file
from tests.e2e.demo_project import DemoProject
from tests.e2e.test_bad_models import Touch

IMAGE = {"content-type": "image/png"}


def refused(
    service: TestClient, photo: bytes, folder: Path, status: int, message: str, **body: Any
) -> None:
    """The reload is refused with a message, and nothing has changed."""
    before = service.get("/version").json()
    answer = service.post("/reload", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert message in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert str(folder) not in answer.text
    assert service.get("/version").json() == before
    result = service.post("/predict", content=photo, headers=IMAGE).json()["results"][0]
    assert result["code"] == "K-000123"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 422, "give model_path"),
        ({"model": "x"}, 422, "unknown: model"),
        ({"model_path": 5}, 422, "must be text"),
        ({"model_path": None}, 422, "must be text"),
        ({"model_path": ["x"]}, 422, "must be text"),
        ({"model_path": ""}, 422, "1 to 4096"),
        ({"model_path": "x\0y"}, 422, "1 to 4096"),
        ({"model_path": "x" * 5000}, 422, "1 to 4096"),
        ({"model_path": "x" * 300}, 404, "no such model"),
        ({"model_path": "nothing.onnx"}, 404, "no such model"),
        ({"model_path": "reports"}, 404, "no such model"),
        ({"model_path": "x", "detection_model_path": "y"}, 422, "give model_path"),
        ({"model_path": "x", "allow_unverified": "yes"}, 422, "true or false"),
        (
            {"model_path": "latest_detection.onnx", "allow_unverified": True},
            403,
            "does not permit",
        ),
        ({"model_path": "../checkpoints/detection_best.pt"}, 403, "allowed folders"),
        ({"model_path": "reports/../../config.yaml"}, 403, "allowed folders"),
        ({"model_path": "/etc/passwd"}, 403, "allowed folders"),
        ({"model_path": "/no/such/file"}, 403, "allowed folders"),
        ({"model_path": "~/model.onnx"}, 404, "no such model"),
        ({"model_path": "export_report.json"}, 422, "not a whole ONNX model"),
        ({"classification_model_path": "latest_detection.onnx"}, 422, "for detection, not for"),
        ({"detection_model_path": "latest_classification.onnx"}, 422, "for classification, not"),
    ],
)
def test_bad_requests(
    served: TestClient,
    photo: bytes,
    passed: DemoProject,
    body: dict[str, Any],
    status: int,
    message: str,
) -> None:
    refused(served, photo, passed.path, status, message, **body)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'"x"', b"[" * 60_000])
def test_bodies_that_are_no_object(served: TestClient, data: bytes) -> None:
    answer = served.post("/reload", content=data)
    assert (answer.status_code, answer.json()["error"]) == (422, "the body must be a JSON object")


def test_a_body_that_is_too_large(served: TestClient) -> None:
    assert served.post("/reload", json={"model_path": "x" * 70_000}).status_code == 413


def test_links_lead_nowhere_else(
    served: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
    outside: Path,
) -> None:
    model = outside / "model.onnx"
    shutil.copy(passed.out_dir / "latest_classification.onnx", model)
    place("link.onnx").symlink_to(model)
    refused(served, photo, passed.path, 403, "allowed folders", model_path="link.onnx")
    place("folder").symlink_to(outside)
    refused(served, photo, passed.path, 403, "allowed folders", model_path="folder/model.onnx")
    place("loop.onnx").symlink_to(passed.out_dir / "loop.onnx")
    refused(served, photo, passed.path, 404, "no such model", model_path="loop.onnx")
    place("gone.onnx").symlink_to("nowhere.onnx")
    refused(served, photo, passed.path, 404, "no such model", model_path="gone.onnx")


Damage = Callable[[Path, Path], None]


def unverified(good: Path, path: Path) -> None:
    model = onnx.load(good)
    model.doc_string = "another file"
    onnx.save(model, path)


def truncated(good: Path, path: Path) -> None:
    path.write_bytes(good.read_bytes()[:-1000])


def flipped(good: Path, path: Path) -> None:
    data = bytearray(good.read_bytes())
    for index in range(5000, len(data), 9000):
        data[index] ^= 0xFF
    path.write_bytes(data)


def empty(good: Path, path: Path) -> None:
    path.write_bytes(b"")


def text(good: Path, path: Path) -> None:
    path.write_text("these are words")


def future_opset(good: Path, path: Path) -> None:
    model = onnx.load(good)
    model.opset_import[0].version = 99
    onnx.save(model, path)


def ancient_opset(good: Path, path: Path) -> None:
    model = onnx.load(good)
    model.opset_import[0].version = 5
    onnx.save(model, path)


def other_classes(good: Path, path: Path) -> None:
    """Logits of 25 classes."""
    model = onnx.load(good)
    extra = helper.make_node("Concat", ["logits0", "one"], ["logits"], axis=1)
    pick = helper.make_node("Slice", ["logits0", "zero", "one_index", "axis"], ["one"])
    for node in model.graph.node:
        node.output[:] = ["logits0" if name == "logits" else name for name in node.output]
    model.graph.node.extend([pick, extra])
    for name, value in (("zero", 0), ("one_index", 1), ("axis", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 25
    onnx.save(model, path)


def not_finite(good: Path, path: Path) -> None:
    model = onnx.load(good)
    weight = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)


def other_preprocessing(good: Path, path: Path) -> None:
    model = onnx.load(good)
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"crop_pct":1.0', '"crop_pct":0.875')
    onnx.save(model, path)


def external(location: str) -> Damage:
    def write(good: Path, path: Path) -> None:
        model = onnx.load(good)
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        onnx.save(model, path)

    return write


DAMAGES: dict[str, tuple[Damage, str]] = {
    "truncated": (truncated, "not a whole ONNX model"),
    "empty": (empty, "not a whole ONNX model"),
    "text": (text, "not a whole ONNX model"),
    "opset of the future": (future_opset, "opset cannot be run"),
    "ancient opset": (ancient_opset, "opset cannot be run"),
    "weights in a parent folder": (external("../secret.bin"), "not to be read"),
    "weights at an absolute path": (external("/etc/passwd"), "not to be read"),
    "weights in a folder below": (external("sub/weights.bin"), "not to be read"),
    "weights that are missing": (external("missing.bin"), "not to be read"),
}
UNVERIFIED: dict[str, tuple[Damage, str]] = {
    "bytes flipped": (flipped, "old models keep serving"),
    "other number of classes": (other_classes, "does not fit the configuration"),
    "weights that are not finite": (not_finite, "not finite"),
    "other preprocessing": (other_preprocessing, "exported for another preprocess"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files(
    served: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
    name: str,
) -> None:
    damage, message = DAMAGES[name]
    damage(passed.out_dir / "latest_classification.onnx", place("candidate.onnx"))
    refused(served, photo, passed.path, 422, message, model_path="candidate.onnx")


@pytest.mark.parametrize("name", UNVERIFIED)
def test_files_that_no_report_has_passed(
    served: TestClient,
    lenient: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
    name: str,
) -> None:
    damage, message = UNVERIFIED[name]
    damage(passed.out_dir / "latest_classification.onnx", place("candidate.onnx"))
    answer = served.post("/reload", json={"model_path": "candidate.onnx"})
    assert answer.status_code in (403, 422)  # flipped bytes may no longer parse
    body = {"model_path": "candidate.onnx", "allow_unverified": True}
    refused(lenient, photo, passed.path, 422, message, **body)


def test_unverified_models_only_where_config_and_caller_agree(
    served: TestClient,
    lenient: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
) -> None:
    path = place("candidate.onnx")
    unverified(passed.out_dir / "latest_classification.onnx", path)
    message = (
        "the gate does not stand behind this classification model (no report of the gate has "
        "passed it on CPUExecutionProvider)"
    )
    for service in (served, lenient):
        refused(service, photo, passed.path, 403, message, model_path="candidate.onnx")
    body = {"model_path": "candidate.onnx", "allow_unverified": True}
    assert lenient.post("/reload", json=body).status_code == 200
    models = lenient.get("/version").json()["models"]
    assert models["classification"]["file"] == "candidate.onnx"
    assert models["classification"]["verified"] is False
    assert models["detection"]["verified"] is True


@pytest.mark.parametrize(
    "change", ["breach", "other provider", "other stage", "other file", "junk"]
)
def test_only_a_passing_verdict_for_this_file_and_provider_counts(
    served: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
    change: str,
) -> None:
    path = place("candidate.onnx")
    unverified(passed.out_dir / "latest_classification.onnx", path)
    digest = sha256_file(path)
    source = min((passed.out_dir / "reports").glob("*smoke*.json"))
    report = json.loads(source.read_text())
    cell = next(cell for cell in report["cells"] if cell["stage"] == "classification")
    report["provenance"]["models_sha256"][cell["id"]] = digest
    if change == "breach":
        cell["verdict"] = "breach"
    elif change == "other provider":
        cell["execution"]["providers"] = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    elif change == "other stage":
        cell["stage"] = "detection"
    elif change == "other file":
        report["provenance"]["models_sha256"][cell["id"]] = "0" * 64
    text = json.dumps(report)[: -1 if change == "junk" else None]
    place("reports/second.json").write_text(text)
    refused(served, photo, passed.path, 403, "does not stand behind", model_path="candidate.onnx")


def test_a_report_that_passes_a_file_lets_it_in(
    served: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = place("candidate.onnx")
    unverified(passed.out_dir / "latest_classification.onnx", path)
    before = served.get("/version").json()["models"]
    gate = ("-m", "smoke", "--provider", "cpu", "--threads", "1", "--stage", "classification")
    candidate = ("--candidate", f"classification={path}")
    done = passed.run("pytest", *gate, *candidate, f"--config={passed.config}")
    assert done.returncode == 0, done.stdout
    answer = served.post("/reload", json={"model_path": "candidate.onnx"})
    assert answer.status_code == 200, answer.text
    after = answer.json()["models"]
    assert after["classification"]["sha256"] != before["classification"]["sha256"]
    assert after["classification"]["verified"] is True
    assert after["detection"] == before["detection"]
    # What a restart would serve instead is said wherever one looks.
    latest = (passed.out_dir / "latest_classification.onnx").resolve().name
    restart = after["classification"]["restart"]
    assert (restart["file"], restart["same"]) == (latest, False)
    assert "set CLASSIFICATION_MODEL_PATH to candidate.onnx" in restart["to_keep"]
    assert served.get("/version").json()["models"] == after
    assert f"serves until a restart, which would take {latest}" in caplog.text
    assert str(path) in caplog.text
    (result,) = served.post("/predict", content=photo, headers=IMAGE).json()["results"]
    assert result["models"]["classification"]["sha256"] == after["classification"]["sha256"]
    both = {
        "classification_model_path": "latest_classification.onnx",
        "detection_model_path": "latest_detection.onnx",
    }
    answer = served.post("/reload", json=both)
    assert answer.status_code == 200, answer.text
    models = answer.json()["models"]
    assert all(each["restart"]["same"] for each in models.values())
    assert {stage: m["sha256"] for stage, m in models.items()} == {
        stage: m["sha256"] for stage, m in before.items()
    }


def test_of_two_models_one_broken_keeps_both(
    served: TestClient, photo: bytes, passed: DemoProject, place: Callable[[str], Path]
) -> None:
    place("broken.onnx").write_bytes(b"no model")
    both = {
        "classification_model_path": "latest_classification.onnx",
        "detection_model_path": "broken.onnx",
    }
    refused(served, photo, passed.path, 422, "not a whole ONNX model", **both)


def malicious(path: Path, harm: Path) -> None:
    torch.save({"state_dict": {}, "model": Touch(harm)}, path)


def other_shape(path: Path, harm: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)


def words(path: Path, harm: Path) -> None:
    path.write_text("words")


@pytest.mark.parametrize(
    ("write", "message"),
    [(malicious, "is refused"), (other_shape, ""), (words, "not a PyTorch checkpoint")],
)
def test_checkpoints_go_through_the_gates_safe_loading(
    lenient: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
    tmp_path: Path,
    write: Callable[[Path, Path], None],
    message: str,
) -> None:
    path = place("model.pt")
    write(path, tmp_path / "harm")
    body = {"classification_model_path": "model.pt", "allow_unverified": True}
    refused(lenient, photo, passed.path, 422, message, **body)
    assert not (tmp_path / "harm").exists()


def test_a_verified_file_is_what_runs_though_it_changes_on_disk(
    served: TestClient, photo: bytes, passed: DemoProject, place: Callable[[str], Path]
) -> None:
    path = place("candidate.onnx")
    shutil.copy(passed.out_dir / "latest_classification.onnx", path)
    assert served.post("/reload", json={"model_path": "candidate.onnx"}).status_code == 200
    os.truncate(path, 100)
    (result,) = served.post("/predict", content=photo, headers=IMAGE).json()["results"]
    assert result["code"] == "K-000123"
    assert served.post("/reload", json={"model_path": "candidate.onnx"}).status_code == 422


def test_a_verdict_does_not_vouch_for_weights_in_other_files(
    served: TestClient,
    lenient: TestClient,
    photo: bytes,
    passed: DemoProject,
    place: Callable[[str], Path],
) -> None:
    path, weights = place("candidate.onnx"), place("candidate.bin")
    model = onnx.load(passed.out_dir / "latest_classification.onnx")
    onnx.save(model, path, save_as_external_data=True, location=weights.name)
    assert weights.stat().st_size > path.stat().st_size
    source = min((passed.out_dir / "reports").glob("*smoke*.json"))
    report = json.loads(source.read_text())
    cell = next(cell for cell in report["cells"] if cell["stage"] == "classification")
    report["provenance"]["models_sha256"][cell["id"]] = sha256_file(path)
    place("reports/second.json").write_text(json.dumps(report))
    refused(served, photo, passed.path, 403, "vouch", model_path="candidate.onnx")
    # They can be loaded all the same where that is permitted, and are what they were.
    body = {"model_path": "candidate.onnx", "allow_unverified": True}
    assert lenient.post("/reload", json=body).status_code == 200
    assert lenient.get("/version").json()["models"]["classification"]["verified"] is False
    (result,) = lenient.post("/predict", content=photo, headers=IMAGE).json()["results"]
    assert result["code"] == "K-000123"
    body["model_path"] = "latest_classification.onnx"
    assert lenient.post("/reload", json=body).status_code == 200


def overflowing(good: Path, path: Path) -> None:
    """A classifier whose logits are NaN for a photo that is nearly white."""
    model = onnx.load(good)
    graph = model.graph
    source, target = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        node.output[:] = ["finite" if name == target else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.float32(0.99), "limit"))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [source], ["mean"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Sub", ["limit", "mean"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["root"]),
            helper.make_node("Sub", ["root", "root"], ["nothing"]),
            helper.make_node("Flatten", ["nothing"], ["column"]),
            helper.make_node("Add", ["finite", "column"], [target]),
        ]
    )
    onnx.save(model, path)


def test_a_photo_that_makes_the_model_overflow_costs_the_others_nothing(
    lenient: TestClient, passed: DemoProject, place: Callable[[str], Path], photo: bytes
) -> None:
    overflowing(passed.out_dir / "latest_classification.onnx", place("overflowing.onnx"))
    body = {"model_path": "overflowing.onnx", "allow_unverified": True}
    assert lenient.post("/reload", json=body).status_code == 200
    file = io.BytesIO()
    Image.new("RGB", (96, 96), "white").save(file, "PNG")
    forms = [("i", ("a.png", photo)), ("i", ("white.png", file.getvalue())), ("i", ("c", b"no"))]
    answer = lenient.post("/predict", files=forms)
    assert (answer.status_code, answer.json()["unreadable"]) == (200, 2)
    good, white, unreadable = answer.json()["results"]
    assert good["code"] == "K-000123"
    assert white["error"] == "the classification model gave values that are not finite"
    assert "cannot be read" in unreadable["error"]
    assert 'pillsnap_images_total{outcome="unanswered"} 1.0' in lenient.get("/metrics").text
    alone = lenient.post("/predict", content=file.getvalue(), headers=IMAGE)
    assert (alone.status_code, alone.json()["error"]) == (422, white["error"])
