"""The client sessions of README.md, as they are written there, on the demo."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from pillsnap.serve.access import require_access
from tests.e2e.demo_project import ROOT, DemoProject
from tests.serve.running import running

WRITTEN = "http://127.0.0.1:8000"


def block(start: str) -> str:
    """The indented lines of README.md from the one that starts so, up to the next text."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith(f"    {start}"))
    found = []
    for line in lines[first:]:
        if line and not line.startswith("    "):
            break
        found.append(line)
    return textwrap.dedent("\n".join(found)).strip()


@pytest.fixture(scope="module")
def service(
    passed: DemoProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("readme") / "log"
    config = passed.path / "readme.yaml"
    config.write_text(yaml.safe_dump(passed.settings))
    with running(config, log) as client:
        yield client


def here(text: str, service: httpx.Client) -> str:
    assert WRITTEN in text
    return text.replace(WRITTEN, str(service.base_url).rstrip("/"))


def test_a_scraper_that_is_set_up_so_is_let_in() -> None:
    (job,) = yaml.safe_load(block("scrape_configs:"))["scrape_configs"]
    assert job["authorization"].keys() == {"type", "credentials_file"}
    require_access("k", "203.0.113.9", {"authorization": f"{job['authorization']['type']} k"})
    assert job["static_configs"][0]["targets"]


def test_the_curl_session(service: httpx.Client) -> None:
    commands = here(block("curl -s http"), service).splitlines()
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
    script.write_text(here(block("import requests"), service))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "K-" in done.stdout
