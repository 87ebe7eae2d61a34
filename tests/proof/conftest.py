"""Fixtures of the proof: healthy exports of the demo, and where findings go."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.settings import Config
from pillsnap.demo.dataset import install
from pillsnap.plugin.state import STATE
from pillsnap.proof.fault import Bench
from pillsnap.proof.trial import make_bench, proof_config

MakeBench = Callable[[str], Bench]
Record = Callable[[str, dict[str, Any]], None]


@pytest.fixture(scope="session")
def demo(request: pytest.FixtureRequest) -> Config:
    """The configuration of this run, which must be the demo's."""
    state = request.config.stash.get(STATE, None)
    if state is None or not state.run.config.demo:
        pytest.skip("the proof runs on the embedded demo: use the config.yaml of pillsnap")
    config: Config = state.run.config
    install(config.exp_dir)
    return config


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    state = request.config.stash.get(STATE, None)
    return 1 if state is None else state.run.threads


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the healthy exports lie: one for all tests."""
    return tmp_path_factory.mktemp("proof-exports")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone after the test: hundreds of models would stay."""
    yield tmp_path / "bench"
    shutil.rmtree(tmp_path / "bench", ignore_errors=True)


@pytest.fixture
def bench_of(demo: Config, exports: Path, folder: Path) -> MakeBench:
    """The bench of a stage."""
    return lambda stage: make_bench(proof_config(demo, stage, exports), stage, folder)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Add a finding to the report of the proof."""
    # Not record_property, which warns under --junitxml.
    return lambda kind, value: request.node.user_properties.append((kind, value))
