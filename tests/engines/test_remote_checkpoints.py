"""Checkpoints behind URLs: fetched once, hashed and read as files here are, named by the URL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import yaml

from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.core.errors import CheckpointError, MissingCheckpoint
from pillsnap.core.filesystems import RemoteError
from pillsnap.core.hashes import sha256_file
from pillsnap.engines.torch.checkpoints import build_classification_model, find_best_checkpoint
from tests.conftest import Experiment


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


def load(folder: Path, url: str) -> Config:
    path = folder / "config.yaml"
    settings = {"paths": {"exp_dir": "exp"}, "classification": {"checkpoint": url}}
    path.write_text(yaml.safe_dump(settings))
    return load_config(path, {})


def test_a_checkpoint_is_the_one_it_would_be_here(
    experiment: Experiment, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(backbone="test_resnet")
    here = find_best_checkpoint(config, "classification")
    memory.put_file(str(here), "/models/best.pt")
    url = "memory://models/best.pt"
    remote = load(tmp_path, url).classification.checkpoint
    config = replace(config, classification=replace(config.classification, checkpoint=remote))
    found = find_best_checkpoint(config, "classification")
    memory.rm("/models/best.pt")  # what was found is not asked for again
    assert str(found) == url
    assert sha256_file(found) == sha256_file(here)
    ours, theirs = (build_classification_model(config, path) for path in (found, here))
    assert ours.origin == theirs.origin
    for one, other in zip(ours.module.parameters(), theirs.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_wrong_with_a_remote_checkpoint_names_the_url(memory: Any, tmp_path: Path) -> None:
    memory.pipe({"/models/last.pt": b"<html>", "/models/notes.txt": b""})
    config = load(tmp_path, "memory://models/best.pt")
    with pytest.raises(MissingCheckpoint, match=r"beside it: last\.pt\n") as caught:
        find_best_checkpoint(config, "classification")
    assert "where:    memory://models/best.pt\n" in str(caught.value)
    assert f"mend classification.checkpoint in {tmp_path}" in str(caught.value)
    config = load(tmp_path, "memory://models/last.pt")
    with pytest.raises(CheckpointError, match="a text file") as wrong:
        build_classification_model(config, find_best_checkpoint(config, "classification"))
    assert "where:    memory://models/last.pt\n" in str(wrong.value)
    config = load(tmp_path, "memory://models")
    with pytest.raises(CheckpointError, match="a folder, or a page of a web server"):
        build_classification_model(config, find_best_checkpoint(config, "classification"))
    with pytest.raises(RemoteError, match="what opens sftp://") as lacking:
        find_best_checkpoint(load(tmp_path, "sftp://host/best.pt"), "classification")
    assert f"where:    {tmp_path}/config.yaml:2: classification.checkpoint" in str(lacking.value)
