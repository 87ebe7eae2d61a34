"""A worker on a node that sees nothing of the driver's disk but the images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import pillsnap.engines.registry as registry
from pillsnap.config.cells import Shard
from pillsnap.config.selection import Selection
from pillsnap.config.settings import Config, Data
from pillsnap.config.validation import Validation
from pillsnap.core.errors import ExportError
from pillsnap.gate.cluster.controller import ClusterRun
from pillsnap.gate.cluster.nodes import Node
from pillsnap.gate.cluster.pool import Pool
from pillsnap.gate.cluster.supplies import Supplies
from pillsnap.gate.run import GateRun
from tests.gate.cluster.inline_pool import InlinePool
from tests.gate.cluster.test_controller import without_times
from tests.plugin.project import make_project
from tests.small_models import Experiment

SELECTION = Selection(stages=("classification",), providers=("cpu",))


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.fixture
def config(experiment: Experiment, tmp_path: Path) -> Config:
    """A classifier with photos outside of the experiment's folder."""
    config = experiment(backbone="test_resnet", classes=4)
    make_project(cast(Any, SimpleNamespace(path=tmp_path)))
    data = Data(Validation(tmp_path / "single", None), tmp_path / "class_map.json")
    compare = replace(config.compare, sample_count=4, batch_size=2, shard_size=2)
    return replace(config, data=data, export=replace(config.export, compare=compare))


def cluster_of(run: GateRun) -> ClusterRun:
    pool = InlinePool([Node("1", "a", 1, 0)], run.config.exp_dir.with_name("node"))
    return ClusterRun(run, cast(Pool, pool))


def shards_of(run: GateRun) -> list[Shard]:
    return [shard for shard in run.plan.shards() if shard.cell.mode == "smoke"]


@pytest.mark.parametrize("named", [False, True])
def test_what_ran_on_files_of_its_own_is_told_by_the_drivers_names(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    if named:
        checkpoint = config.exp_dir / "mine.pt"
        (config.exp_dir / "checkpoints" / "classification_best.pt").rename(checkpoint)
        mine = replace(config.classification, checkpoint=checkpoint)
        config = replace(config, classification=mine)
    serial = GateRun(config, SELECTION, threads=1, run_dir=config.exp_dir / "runs" / "serial")
    shards = shards_of(serial)
    expected = [without_times(serial.run(shard)) for shard in shards]
    assert [each["failure"] for each in expected] == [None, None]
    run = replace(serial, run_dir=config.exp_dir / "runs" / "cluster")
    cluster = cluster_of(run)
    away = tmp_path / "unseen"
    find_model = Supplies.find_model

    def find_here(self: Supplies, cell: Any) -> None:
        """The driver sees its files when it exports, the worker never."""
        away.rename(config.exp_dir)
        find_model(self, cell)
        config.exp_dir.rename(away)

    monkeypatch.setattr(Supplies, "find_model", find_here)
    config.exp_dir.rename(away)
    cluster.begin(shards)
    found = [without_times(cluster.run(shard)) for shard in shards]
    for outcome, known in zip(found, expected, strict=True):
        # The driver keeps what came, where its own folder is.
        assert (
            Path(outcome["file"]).read_bytes()
            == (away / "runs/serial/records" / Path(outcome["file"]).name).read_bytes()
        )
        known["file"] = outcome["file"]
        known["candidate"]["reused"] = outcome["candidate"]["reused"]
        assert outcome == known
    assert str(tmp_path / "node") not in json.dumps(found)
    ((_, scratch),) = cluster.end()
    assert list(Path(scratch).rglob("*.onnx"))


def test_an_export_that_fails_fails_the_shards_as_on_one_machine(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ExportError("the exporter failed", where="classification")

    def fail(*_: Any) -> None:
        raise broken

    monkeypatch.setattr("pillsnap.gate.opened_models.choose_file", lambda *_, **__: fail())
    run = GateRun(config, SELECTION, threads=1, run_dir=config.exp_dir / "runs" / "cluster")
    shards = shards_of(run)
    expected = [without_times(run.run(shard)) for shard in shards]
    cluster = cluster_of(run)
    cluster.begin(shards)
    assert [without_times(cluster.run(shard)) for shard in shards] == expected
    assert expected[0]["failure"] == ["unmeasured", str(broken)]


def test_a_missing_checkpoint_skips_as_on_one_machine(config: Config) -> None:
    (config.exp_dir / "checkpoints" / "classification_best.pt").unlink()
    run = GateRun(config, SELECTION, threads=1, run_dir=config.exp_dir / "runs" / "cluster")
    (shard, *_) = shards_of(run)
    cluster = cluster_of(run)
    cluster.begin([shard])
    found = without_times(cluster.run(shard))
    assert found["failure"][0] == "skipped"
    assert found == without_times(run.run(shard))
