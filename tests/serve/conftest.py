"""A demo project whose models the gate has passed, and the service on top of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pillsnap.config.load import load_config
from pillsnap.config.settings import Config, Serve
from pillsnap.serve.service import create_app
from tests.e2e.demo_project import DemoProject

if TYPE_CHECKING:  # every run of the gate loads this file, and few need a service
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

LOCAL = ("127.0.0.1", 50_000)
SMALL = Serve(
    provider="cpu", max_images=4, max_upload_mib=4, max_megapixels=2, max_held_megapixels=2.2
)


def client(app: Starlette, peer: tuple[str, int] = LOCAL) -> TestClient:
    """A client whose requests come from `peer`."""
    from starlette.testclient import TestClient

    return TestClient(app, base_url="http://127.0.0.1", client=peer, raise_server_exceptions=False)


@pytest.fixture(scope="session")
def passed(tmp_path_factory: pytest.TempPathFactory) -> DemoProject:
    """A project after one smoke gate on the CPU provider; yours to read."""
    project = DemoProject(tmp_path_factory.mktemp("passed"))
    command = ("pytest", "-m", "smoke", "--provider", "cpu", "--threads", "1", "-q")
    done = project.run(*command, f"--config={project.config}")
    assert done.returncode == 0, done.stdout
    return project


@pytest.fixture(scope="session")
def config(passed: DemoProject) -> Config:
    return replace(load_config(passed.config, {}), serve=SMALL)


@pytest.fixture(scope="session")
def app(config: Config) -> Starlette:
    return create_app(config, {})


@pytest.fixture(scope="session")
def served(app: Starlette) -> Iterator[TestClient]:
    with client(app) as opened:
        yield opened


@pytest.fixture(scope="session")
def photo(passed: DemoProject) -> bytes:
    """A photo of one pill, PNG."""
    return (passed.images / "single" / "K-000123" / "000.png").read_bytes()


@pytest.fixture(scope="session")
def scene(passed: DemoProject) -> bytes:
    """A scene with one pill or more, PNG."""
    return (passed.images / "combo" / "images" / "0003.png").read_bytes()


@pytest.fixture(scope="module")
def lenient(config: Config) -> Iterator[TestClient]:
    """A service that permits allow_unverified."""
    permitting = replace(config, serve=replace(config.serve, allow_unverified=True))
    with client(create_app(permitting, {})) as opened:
        yield opened


@pytest.fixture
def place(passed: DemoProject) -> Iterator[Callable[[str], Path]]:
    """Names for files in the export folder that go when the test is over."""
    made: list[Path] = []

    def give(name: str) -> Path:
        made.append(passed.out_dir / name)
        return made[-1]

    yield give
    for path in made:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder from which nothing may be loaded."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def keyed(config: Config) -> Iterator[TestClient]:
    """A remote client of a service whose key is "right"."""
    with client(create_app(config, {"API_KEY": "right"}), ("203.0.113.9", 50_000)) as opened:
        yield opened


@pytest.fixture(scope="session")
def remote(app: Starlette, served: TestClient) -> TestClient:
    """A remote client of the service that has no key."""
    return client(app, ("203.0.113.9", 50_000))
