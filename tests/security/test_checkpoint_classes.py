"""The allow list: what is on it does nothing, and what trainers save beside the weights is read."""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pillsnap.engines.torch.torchfile.layers import LAYERS, network_layers
from pillsnap.engines.torch.torchfile.names import is_data, is_layer
from pillsnap.engines.torch.torchfile.objects import StandIn
from pillsnap.engines.torch.torchfile.reading import read_checkpoint
from pillsnap.engines.torch.yolo import quiet_ultralytics


def test_constructing_any_class_of_the_lists_touches_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.class_probe"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    found = json.loads(done.stdout)
    assert found["events"] == []
    assert found["names"] > 600 and found["pickles"] > 5000 and found["made"] > 500


def test_layers_of_the_list_are_there_and_take_no_source() -> None:
    quiet_ultralytics()
    layers = network_layers()
    for module, names in LAYERS.items():
        for name in names.split():
            assert issubclass(layers[f"{module}.{name}"], torch.nn.Module)
    for name in (
        "ultralytics.nn.modules.block.TorchVision",
        "ultralytics.nn.distill_model.DistillationModel",
        "ultralytics.nn.text_model.CLIP",
        "ultralytics.nn.tasks.YOLOEModel",
        "ultralytics.nn.tasks.Ensemble",
        "torch.hub.load_state_dict_from_url",
    ):
        assert name not in layers


@pytest.mark.parametrize(
    "name",
    ["os.system", "posix.mkdir", "builtins.eval", "builtins.getattr", "numpy.load", "torch.load",
     "torch.hub.load", "torch.storage._load_from_bytes", "functools.partial", "copyreg.__newobj__",
     "ultralytics.utils.downloads.safe_download", "ultralytics.nn.tasks.yaml_model_load",
     "torch.nn.modules.module.register_module_forward_hook", "numpy.core.multiarray.fromfile",
     "pathlib.os.system", "argparse.FileType", "ultralytics.nn.modules.head.Detect.forward"],
)  # fmt: skip
def test_functions_are_no_data(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert not is_data(module, attribute) and not is_layer(module, attribute)


def test_figures_and_arguments_beside_the_weights(tmp_path: Path) -> None:
    beside: dict[str, Any] = {
        "fitness": np.float32(0.5),
        "map": np.float64(0.25),
        "count": np.int64(7),
        "good": np.bool_(True),
        "curve": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1, out=pathlib.PosixPath("/x")),
        "when": datetime.datetime(2025, 1, 1),
        "device": torch.device("cuda:3"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "torch": torch.__version__,
        "numpy_type": np.dtype("float32"),
        "random": np.random.default_rng(0).bit_generator.state,
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict(),
        "schedule": torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)]), 3),
        "tags": {"a", "b"},
        "raw": b"\x00\xff",
    }
    path = tmp_path / "a.pt"
    for protocol in (2, 4, 5):
        torch.save({"state_dict": {"w": torch.ones(2)}, **beside}, path, pickle_protocol=protocol)
        found = read_checkpoint(path, {})
        assert found["state_dict"]["w"].tolist() == [1, 1]
        figures = {key: found[key] for key in ("fitness", "map", "count", "good", "size", "tags")}
        assert figures == {"fitness": 0.5, "map": 0.25, "count": 7, "good": True, "size": (1, 2),
                           "tags": {"a", "b"}}  # fmt: skip
        assert type(found["fitness"]) is float and type(found["count"]) is int
        assert found["dtype"] is torch.float16 and found["raw"] == b"\x00\xff"
        assert found["args"].state["lr"] == 0.1
        for key in ("curve", "when", "device", "torch", "schedule"):
            assert isinstance(found[key], StandIn)


OTHER_VERSIONS = {
    "numpy.core.multiarray\nscalar": "numpy._core.multiarray\nscalar",
    "pathlib\nPosixPath": "pathlib._local\nWindowsPath",
}


def test_names_of_other_versions(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.pt"
    torch.save({"map": np.float64(0.25), "out": pathlib.PosixPath("/x")}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    for one, other in OTHER_VERSIONS.items():
        for was, now in ((one, other), (other, one)):
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in entries.items():
                    archive.writestr(name, data.replace(b"c" + was.encode(), b"c" + now.encode()))
            found = read_checkpoint(path, {})
            assert found["map"] == 0.25 and isinstance(found["out"], StandIn)


def test_old_format_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    whole = torch.arange(6.0)
    state = {"w": whole[2:], "h": torch.ones(2, 3).half(), "n": torch.tensor(5)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    found = read_checkpoint(path, {})
    assert list(found) == list(state)
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert found["h"].dtype == torch.float16
