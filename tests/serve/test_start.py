"""Starting the service: which models it takes, and mistakes that are messages."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image

from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.core.errors import ConfigError, EngineError, PillsnapError
from pillsnap.serve.__main__ import main as serve
from pillsnap.serve.service import create_app
from tests.e2e.demo_project import DemoProject
from tests.serve.conftest import client
from tests.serve.running import running


@pytest.mark.parametrize(
    ("config", "env_file", "environ", "message"),
    [
        ("paths: {exp_dir: [", "", {}, "this is not YAML"),
        ("paths: {exp_dir: x}\nserve: {port: 1}", "", {}, "unknown key 'port'"),
        ("paths: {exp_dir: x}", "API_KEY='secret", {}, "quotes are broken"),
        ("paths: {exp_dir: x}", "API_KEY=secret", {"API_KEY": ""}, "API_KEY is set and empty"),
        ("paths: {exp_dir: x}", "MODEL_PATH=gone.onnx", {}, "MODEL_PATH names no model"),
        ("paths: {exp_dir: x}", "", {"DETECTION_MODEL_PATH": "/gone"}, "no classification model"),
        ("paths: {exp_dir: x}", "", {"CLASSIFICATION_MODEL_PATH": "."}, "it is a folder"),
        ("paths: {exp_dir: x}", "", {"MODEL_PATH": "config.yaml"}, "not a whole ONNX model"),
    ],
)
def test_mistakes_end_it_with_a_message(
    tmp_path: Path, config: str, env_file: str, environ: dict[str, str], message: str
) -> None:
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / ".env").write_text(env_file)
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "pillsnap.serve:app", "--port", "1"],
        cwd=tmp_path,
        env={**os.environ, "PILLSNAP_CONFIG": str(tmp_path / "config.yaml"), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("library", ["starlette.applications", "prometheus_client"])
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    (tmp_path / "config.yaml").write_text("paths: {exp_dir: x}")
    config = load_config(tmp_path / "config.yaml", {})
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(PillsnapError, match=f"{library} is not installed") as caught:
        create_app(config, {})
    assert "pip install 'pillsnap[serve]'" in str(caught.value)


def test_a_server_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(PillsnapError, match="uvicorn is not installed"):
        serve([])


def test_a_configuration_that_is_missing_is_named_by_the_option_that_gave_it() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no such config file.*--config.*nope\.yaml"):
        serve(["--config", "nope.yaml", "--version"])


def test_what_was_chosen_and_why_is_logged_and_shown(passed: DemoProject, tmp_path: Path) -> None:
    config = passed.path / "start.yaml"
    config.write_text(yaml.safe_dump({**passed.settings, "serve": {"provider": "cpu"}}))
    chosen = str(next(passed.out_dir.glob("classification-*.onnx")))
    with running(config, tmp_path / "log", CLASSIFICATION_MODEL_PATH=chosen) as client:
        models = client.get("/version").json()["models"]
        log = (tmp_path / "log").read_text()
    assert models["classification"]["reason"] == "CLASSIFICATION_MODEL_PATH is set"
    assert models["detection"]["reason"] == "latest_detection.onnx of export.out_dir"
    assert f"classification: {chosen} (CLASSIFICATION_MODEL_PATH is set)" in log
    assert models["detection"]["verified"] is True


def test_an_export_that_nobody_has_passed_is_not_served_by_itself(
    passed: DemoProject, config: Config, tmp_path: Path
) -> None:
    for stage in ("classification", "detection"):
        shutil.copy((passed.out_dir / f"latest_{stage}.onnx").resolve(), tmp_path)
    moved = replace(config, export=replace(config.export, out_dir=tmp_path))
    with pytest.raises(EngineError, match="the gate has passed no classification export") as caught:
        create_app(moved, {})
    assert "CLASSIFICATION_MODEL_PATH" in str(caught.value)
    lenient = replace(moved, serve=replace(moved.serve, allow_unverified=True))
    # A report in its place speaks for the file as the link would.
    for app in (lenient, moved):
        with client(create_app(app, {})) as opened:
            models = opened.get("/version").json()["models"]
        assert {each["verified"] for each in models.values()} == {app is moved}
        shutil.copytree(passed.out_dir / "reports", tmp_path / "reports", dirs_exist_ok=True)


def test_more_requests_than_may_wait_are_told_so(
    passed: DemoProject, photo: bytes, tmp_path: Path
) -> None:
    config = passed.path / "waiting.yaml"
    settings = {"provider": "cpu", "max_waiting": 1}
    config.write_text(yaml.safe_dump({**passed.settings, "serve": settings}))
    headers = {"content-type": "image/png"}
    buffer = io.BytesIO()
    Image.new("RGB", (5000, 4000)).save(buffer, "png")  # decoding it takes a while
    with running(config, tmp_path / "log") as client, ThreadPoolExecutor(4) as pool:

        def ask(image: bytes) -> httpx.Response:
            return client.post("/predict", content=image, headers=headers)

        answers = list(pool.map(ask, [buffer.getvalue()] * 4))
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused
        assert "try again later" in refused[0].json()["error"]
        assert any(answer.status_code == 200 for answer in answers)
        answer = ask(photo)
        assert answer.json()["results"][0]["code"] == "K-000123"
