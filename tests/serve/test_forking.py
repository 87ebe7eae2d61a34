"""Servers that import the service and fork: the fork serves, or says that it does not."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pillsnap.config.settings import Config
from pillsnap.serve.late import LateService
from tests.e2e.demo_project import DemoProject
from tests.serve.conftest import client
from tests.serve.running import running

IMAGE = {"content-type": "image/png"}

# As gunicorn --preload does: the app is there before the process that serves it.
PRELOAD = """
import os, signal, sys
import uvicorn
from pillsnap.serve import app

child = os.fork()
if child == 0:
    uvicorn.run(app, port=int(sys.argv[1]))
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
os.waitpid(child, 0)
"""


def test_a_fork_of_what_has_imported_it_serves(
    passed: DemoProject, photo: bytes, tmp_path: Path
) -> None:
    config = passed.path / "forking.yaml"
    config.write_text(yaml.safe_dump({**passed.settings, "serve": {"provider": "cpu"}}))
    with running(config, tmp_path / "log", script=PRELOAD) as service:
        answer = service.post("/predict", content=photo, headers=IMAGE)
    assert answer.json()["results"][0]["code"] == "K-000123"


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_fork_of_what_has_loaded_the_models_says_that_it_cannot_answer(
    served: TestClient, app: Starlette, photo: bytes
) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            here = client(app)
            answers = [
                here.get("/health"),
                here.post("/predict", content=photo, headers=IMAGE),
                here.post("/reload", json={"model_path": "latest_classification.onnx"}),
            ]
            found = [(answer.status_code, answer.json()) for answer in answers]
            os.write(writer, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found = json.load(pipe)
    os.waitpid(child, 0)
    why = "this process was forked after the models were loaded, whose threads it lacks"
    assert found == [[503, {"error": why}]] * 3
    assert served.get("/health").status_code == 200


def test_a_model_that_changes_before_it_is_loaded_is_a_message(
    config: Config, passed: DemoProject, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(passed.out_dir / "latest_classification.onnx", path)
    alone = replace(config, paths=replace(config.paths, exp_dir=tmp_path))
    service = LateService(alone, {"CLASSIFICATION_MODEL_PATH": str(path)})
    path.write_bytes(path.read_bytes() + b"\0")
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(service({"type": "lifespan"}, receive, send))
    (answer,) = sent
    assert answer["type"] == "lifespan.startup.failed"
    assert answer["message"].startswith("error: ")
    # Of a server that knows no start.
    refused = client(service).get("/health")
    assert refused.status_code == 503
    assert str(tmp_path) not in refused.text
