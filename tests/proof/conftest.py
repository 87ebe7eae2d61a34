"""Fixtures of the proof: healthy exports of this run's models, and where findings go."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pillsnap.config.settings import Config
from pillsnap.demo.dataset import install
from pillsnap.plugin.scoreboard import INAPPLICABLE
from pillsnap.plugin.state import STATE
from pillsnap.proof.fault import Bench, NotApplicable
from pillsnap.proof.trial import make_bench, proof_config, proven_stages

MakeBench = Callable[[str], Bench]
Record = Callable[[str, dict[str, Any]], None]


@pytest.fixture(scope="session")
def proven(request: pytest.FixtureRequest) -> Config:
    """The configuration of this run."""
    state = request.config.stash.get(STATE, None)
    if state is None:
        pytest.skip("there is no config.yaml to prove the gate with")
    config: Config = state.run.config
    if config.demo:
        install(config.exp_dir)
    return config


@pytest.fixture(scope="session")
def demo(proven: Config) -> Config:
    """The configuration of this run, which must be the demo's."""
    if not proven.demo:
        pytest.skip("this is of the embedded demo: use the config.yaml of pillsnap")
    return proven


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
def bench_of(proven: Config, exports: Path, folder: Path) -> MakeBench:
    """The bench of a stage; skips where the configuration has none of it."""

    def make(stage: str) -> Bench:
        require(proven, stage)
        return make_bench(proof_config(proven, stage, exports), stage, folder)

    return make


def require(config: Config, stage: str) -> None:
    """Skip where a stage has no checkpoint or no data."""
    if stage not in proven_stages(config):
        pytest.skip(f"{stage} has no checkpoint or no validation data")


def skip_inapplicable(
    error: NotApplicable, kind: str, stage: str, fault: str, config: Config, record: Record
) -> None:
    """Name and skip what somebody's models have nothing of; on the demo everything can be tried."""
    if config.demo:
        raise error
    record(INAPPLICABLE, {"kind": kind, "stage": stage, "fault": fault, "why": str(error)})
    pytest.skip(str(error))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Add a finding to the report of the proof."""
    # Not record_property, which warns under --junitxml.
    return lambda kind, value: request.node.user_properties.append((kind, value))
