"""Whatever lies where models and reports are looked for, the service says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from starlette.testclient import TestClient

from pillsnap.config.settings import Config, Paths
from pillsnap.core.errors import EngineError
from pillsnap.serve.approval import MAX_BYTES
from pillsnap.serve.opening import open_proven
from pillsnap.serve.service import create_app
from tests.e2e.demo_project import DemoProject
from tests.serve.conftest import client
from tests.serve.test_reload import IMAGE, refused, unverified

Place = Callable[[str], Path]


def reload(service: TestClient, name: str, **more: object) -> None:
    answer = service.post("/reload", content=json.dumps({"model_path": name, **more}))
    assert answer.status_code == 200, answer.text


def test_reports_may_be_anything(
    served: TestClient, photo: bytes, passed: DemoProject, place: Place
) -> None:
    place("reports/0.json").write_text("[" * 100_000)
    place("reports/1.json").write_text('{"provenance": ' * 100_000)
    place("reports/2.json").write_text("[]")
    place("reports/3.json").write_text('{"provenance": {"models_sha256": 5}, "cells": "xy"}')
    place("reports/4.json").write_text("9" * 10_000)
    os.mkfifo(place("reports/5.json"))
    place("reports/6.json").symlink_to("/dev/zero")
    unverified(passed.out_dir / "latest_classification.onnx", place("candidate.onnx"))
    refused(served, photo, passed.path, 403, "no report", model_path="candidate.onnx")
    reload(served, "latest_classification.onnx")


def test_only_regular_files_of_a_models_size_are_opened(
    served: TestClient, photo: bytes, passed: DemoProject, place: Place, config: Config
) -> None:
    fifo = place("fifo.onnx")
    os.mkfifo(fifo)
    refused(served, photo, passed.path, 404, "no such model", model_path="fifo.onnx")
    with place("huge.pt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    refused(served, photo, passed.path, 422, "as no model has", model_path="huge.pt")
    for path in (fifo, Path("/dev/zero"), passed.out_dir):
        with pytest.raises(EngineError, match="not a regular file"):
            open_proven(config, "classification", path)


@pytest.mark.parametrize("size", [0, 2**31])
def test_a_batch_that_cannot_be_filled(
    lenient: TestClient, photo: bytes, passed: DemoProject, place: Place, size: int
) -> None:
    model = onnx.load(passed.out_dir / "latest_classification.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    onnx.save(model, place("candidate.onnx"))
    body = {"model_path": "candidate.onnx", "allow_unverified": True}
    refused(lenient, photo, passed.path, 422, "a size that cannot be filled", **body)


def test_a_version_of_any_length_fits_into_answers(
    lenient: TestClient, passed: DemoProject, place: Place
) -> None:
    model = onnx.load(passed.out_dir / "latest_classification.onnx")
    (tag,) = (each for each in model.metadata_props if each.key == "pillsnap.version_tag")
    tag.value = "\x1b[31m" + 100_000 * "x"
    onnx.save(model, place("candidate.onnx"))
    reload(lenient, "candidate.onnx", allow_unverified=True)
    version = lenient.get("/version").json()["models"]["classification"]["version"]
    assert len(version) == 100
    assert version.isprintable()
    reload(lenient, "latest_classification.onnx")


def test_a_name_that_is_not_utf8_is_served_and_shown(
    served: TestClient, lenient: TestClient, photo: bytes, passed: DemoProject, place: Place
) -> None:
    name = os.fsdecode(b"caf\xe9\n.onnx")
    shutil.copy(passed.out_dir / "latest_classification.onnx", place(name))
    reload(served, name)
    assert served.get("/version").json()["models"]["classification"]["file"] == r"caf\udce9\n.onnx"
    assert served.get("/metrics").status_code == 200
    assert served.post("/predict", content=photo, headers=IMAGE).status_code == 200
    reload(served, "latest_classification.onnx")
    # Without metadata the version is the file's name.
    model = onnx.load(passed.out_dir / "latest_classification.onnx")
    del model.metadata_props[:]
    onnx.save(model, passed.out_dir / name)
    answer = served.post("/reload", content=json.dumps({"model_path": name}))
    assert answer.status_code == 403
    reload(lenient, name, allow_unverified=True)
    answer = lenient.post("/predict", content=photo, headers=IMAGE)
    (result,) = answer.json()["results"]
    assert result["models"]["classification"]["version"] == r"caf\udce9\n"
    assert lenient.get("/metrics").status_code == 200
    reload(lenient, "latest_classification.onnx")


@pytest.mark.parametrize("body", [r'{"model_path": "\ud800"}', r'{"\ud800": "x"}'])
def test_text_that_no_name_can_be(served: TestClient, body: str) -> None:
    answer = served.post("/reload", content=body)
    assert answer.status_code in (404, 422)
    assert "internal" not in answer.text


def test_a_service_that_started_on_the_checkpoint_takes_a_verified_export(
    config: Config, passed: DemoProject, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(passed.exp_dir / "checkpoints/classification_best.pt", tmp_path / "checkpoints")
    shutil.copytree(passed.out_dir / "reports", tmp_path / "export/reports")
    shutil.copy(passed.out_dir / "latest_classification.onnx", tmp_path / "export/new.onnx")
    bare = replace(config, paths=Paths(exp_dir=tmp_path))
    with client(create_app(bare, {})) as service:
        models = service.get("/version").json()["models"]
        assert models["classification"]["provider"] == "torch:cpu"
        assert models.keys() == {"classification"}
        reload(service, "new.onnx")
        assert service.get("/version").json()["models"]["classification"]["verified"] is True
