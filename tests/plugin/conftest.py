"""Fixtures of the plugin's tests: each runs without xdist and with -n 2. That -n 0 gives the report
of the former is a test of its own."""

from __future__ import annotations

import pytest

from tests.plugin.project import Project, Workers, make_project

GITHUB = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")

WORKERS: dict[str, Workers] = {"none": (), "n2": ("-n", "2")}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PILLSNAP_CONFIG", "OPSET", "PYTEST_ADDOPTS", *GITHUB):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=WORKERS)
def workers(request: pytest.FixtureRequest) -> Workers:
    return WORKERS[request.param]


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    return make_project(pytester)
