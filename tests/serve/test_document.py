"""The client sessions of docs/service.md, as they are written there, on the demo."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from pillsnap.serve.access import require_access
from tests.documents import block
from tests.e2e.demo_project import ROOT, DemoProject
from tests.serve.running import running

DOCUMENT = "docs/service.md"
WRITTEN = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def service(
    passed: DemoProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("document") / "log"
    config = passed.path / "document.yaml"
    config.write_text(yaml.safe_dump(passed.settings))
    with running(config, log) as client:
        yield client


def here(text: str, service: httpx.Client) -> str:
    assert WRITTEN in text
    return text.replace(WRITTEN, str(service.base_url).rstrip("/"))


def test_a_scraper_that_is_set_up_so_is_let_in() -> None:
    (job,) = yaml.safe_load(block(DOCUMENT, "scrape_configs:"))["scrape_configs"]
    assert job["authorization"].keys() == {"type", "credentials_file"}
    require_access("k", "203.0.113.9", {"authorization": f"{job['authorization']['type']} k"})
    assert job["static_configs"][0]["targets"]


def test_the_curl_session(service: httpx.Client) -> None:
    commands = here(block(DOCUMENT, "curl -s http"), service).splitlines()
    answers = []
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        answers.append(json.loads(done.stdout))
    version, single, combo, reloaded = answers
    assert set(version["models"]) == {"detection", "classification"}
    assert single["results"][0]["code"] == "K-000123"
    assert len(combo["results"][0]["boxes"]) >= 1
    assert reloaded["models"]["classification"]["reason"] == "reload"


def test_the_python_session(service: httpx.Client, tmp_path: Path) -> None:
    script = tmp_path / "session.py"
    script.write_text(here(block(DOCUMENT, "import requests"), service))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "K-" in done.stdout
