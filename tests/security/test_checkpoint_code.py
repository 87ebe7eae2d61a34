"""Checkpoints made to run code or to reach the network: nothing happens, and it is said."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pillsnap.config.settings import Classification, Detection
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.torchfile import reading
from pillsnap.engines.torch.torchfile.budget import Unreadable
from pillsnap.engines.torch.torchfile.guard import guarded
from pillsnap.engines.torch.torchfile.objects import StandIn
from pillsnap.engines.torch.torchfile.reading import read_checkpoint
from tests.small_models import make_detector, save_detector


class Distilled:
    """Pickles as the construction of a network that fetches another checkpoint."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        from ultralytics.nn.distill_model import DistillationModel

        return DistillationModel, (self.source, self.source)


@pytest.mark.parametrize("setting", ["0", "1"])
def test_distilled_network_fetches_nothing(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", setting)
    monkeypatch.setattr("ultralytics.nn.tasks.SAFE_LOAD", setting == "1")
    monkeypatch.chdir(tmp_path)
    for where in ("ema", "train_args"):
        path = save_detector(
            make_detector("yolo11n", 1),
            tmp_path / "a.pt",
            **{where: Distilled("http://127.0.0.1:9/teacher.pt")},
        )
        with pytest.raises(CheckpointError, match="refused: loading it would call code") as caught:
            load_detector(Detection("yolo11n", 1), path)
        assert "ultralytics.nn.distill_model.DistillationModel(…)" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.fixture
def short_waits() -> Iterator[None]:
    """Requests that get through to a server that never answers give up soon."""
    socket.setdefaulttimeout(2.0)
    yield
    socket.setdefaulttimeout(None)


@pytest.mark.usefixtures("short_waits")
def test_network_and_processes_are_refused_while_a_checkpoint_is_read(
    tmp_path: Path,
) -> None:
    from ultralytics.utils.downloads import safe_download

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/weights.pt"
        tries: list[Callable[[], object]] = [
            lambda: torch.hub.load_state_dict_from_url(address, model_dir=str(tmp_path)),
            lambda: torch.hub.download_url_to_file(address, str(tmp_path / "a")),
            lambda: safe_download(address, dir=tmp_path, retry=0),
            lambda: subprocess.run([sys.executable, "-c", ""], check=False),
        ]
        for attempt in tries:
            with guarded(), pytest.raises((Unreadable, ConnectionError)):
                attempt()
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    subprocess.run([sys.executable, "-c", ""], check=True)  # and not afterwards


def test_a_checkpoint_is_read_under_that_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    torch.save({}, path)

    def start(*_: object) -> None:
        subprocess.run([sys.executable, "-c", ""], check=True)

    monkeypatch.setattr(reading, "_read", start)
    with pytest.raises(CheckpointError, match="would use the network or start a process"):
        read_checkpoint(path, {})


def test_classifier_is_never_made_of_a_pickled_network(tmp_path: Path) -> None:
    from pillsnap.engines.torch.timm_models import load_classifier

    path = tmp_path / "a.pt"
    torch.save({"model": torch.nn.Sequential(torch.nn.Linear(1, 1))}, path)
    assert isinstance(read_checkpoint(path, {})["model"], StandIn)
    with pytest.raises(CheckpointError, match="holds no state dict") as caught:
        load_classifier(Classification("test_resnet", 5), path)
    assert "save model.state_dict() in place of the model" in str(caught.value)


def test_keys_of_a_checkpoint_move_no_cursor(tmp_path: Path) -> None:
    from pillsnap.engines.torch.timm_models import load_classifier

    path = tmp_path / "a.pt"
    torch.save({"\x1b[2Jgate: equivalent\nnote": 1}, path)
    with pytest.raises(CheckpointError) as caught:
        load_classifier(Classification("test_resnet", 5), path)
    assert "\x1b" not in str(caught.value) and "equivalent\nnote" not in str(caught.value)
    path.write_bytes(pickle.dumps("x", 2))
    with pytest.raises(CheckpointError, match="damaged, or was not written"):
        load_classifier(Classification("test_resnet", 5), path)
