"""Networks in checkpoints made to crash, to hang or to fill the memory: a message each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pillsnap.config.settings import Detection
from pillsnap.core.errors import CheckpointError
from tests.small_models import make_detector, save_detector

LIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an Identity in place of the layers": (
        lambda model: setattr(model, "model", torch.nn.Identity()),
        "its network",
    ),
    "no layers": (lambda model: setattr(model, "model", torch.nn.Sequential()), "its network"),
    "names that are a number": (lambda model: setattr(model, "names", 3), "class names"),
    "names of mixed keys": (
        lambda model: setattr(model, "names", {0: "a", "b": "c", None: 1}),
        "class names",
    ),
    "a stride of nothing": (
        lambda model: setattr(model.model[-1], "stride", torch.zeros(3)),
        "strides",
    ),
    "a stride that is one number": (
        lambda model: setattr(model.model[-1], "stride", torch.tensor(8.0)),
        "strides",
    ),
    "a stride that is no tensor": (
        lambda model: setattr(model.model[-1], "stride", 8),
        "strides",
    ),
    "strides of another network": (
        lambda model: setattr(model.model[-1], "stride", torch.tensor([4.0, 8.0, 16.0])),
        "does not run",
    ),
    "classes that are a text": (lambda model: setattr(model.model[-1], "nc", "1"), "classes"),
    "a layer that reads a later one": (lambda model: setattr(model.model[3], "f", 7), "place"),
    "a layer that reads by name": (lambda model: setattr(model.model[3], "f", "x"), "place"),
    "a place that is no number": (lambda model: setattr(model.model[3], "i", None), "place"),
    "no list of kept outputs": (lambda model: setattr(model, "save", 4), "outputs to keep"),
    "an operation repeated for ever": (
        lambda model: setattr(model.model[9], "n", 10**15),
        "does not run",
    ),
    "an image of terabytes": (
        lambda model: setattr(model.model[11], "scale_factor", 1e5),
        "does not run",
    ),
    "an image of terabytes that shrinks again": (
        lambda model: setattr(
            model.model[8].cv2,
            "act",
            torch.nn.Sequential(
                torch.nn.Upsample(scale_factor=1e5), torch.nn.AdaptiveAvgPool2d((20, 20))
            ),
        ),
        "does not run",
    ),
    "margins of terabytes": (
        lambda model: setattr(model.model[0].conv, "padding", (10**6, 10**6)),
        "does not run",
    ),
    "layers that do not fit": (
        lambda model: setattr(model.model[1], "conv", torch.nn.Conv2d(99, 1, 1)),
        "does not run",
    ),
    "a forward that is a layer": (
        lambda model: model.model[2].__dict__.update(forward=torch.nn.Identity()),
        "a forward of its own",
    ),
    "a forward that is a text": (
        lambda model: model.model[2].__dict__.update(forward="x"),
        "a forward of its own",
    ),
    "a hook": (
        lambda model: model.model[2].__dict__["_forward_hooks"].update({0: torch.nn.Identity()}),
        "_forward_hooks",
    ),
    "a layer behind a plain attribute": (
        lambda model: model.model[2].__dict__.update(cv3=torch.nn.Identity()),
        "a layer",
    ),
    "a layer within itself": (
        lambda model: model.model[2]._modules.update(cv3=model.model[2]),
        "also at another place",
    ),
    "a layer at two places": (
        lambda model: model.model[4]._modules.update(cv1=model.model[2].cv1),
        "also at another place",
    ),
    "a chain of layers, 60 deep": (
        lambda model: model.model[2]._modules.update(cv3=chain(60)),
        "too many layers",
    ),
    "a head without its numbers": (
        lambda model: model.model[-1].__dict__.pop("nc"),
        "number of classes",
    ),
    "a head without its branches": (
        lambda model: model.model[-1]._modules.pop("cv2"),
        "one-to-many head",
    ),
    "anchors that are a text": (
        lambda model: setattr(model.model[-1], "anchors", "x"),
        "does not run",
    ),
    "a set of buffers that is a number": (
        lambda model: model.model[2].__dict__.update(_non_persistent_buffers_set=3),
        "_non_persistent_buffers_set",
    ),
    "a layer without a state": (
        lambda model: model.model[2]._modules.update(cv1=Stateless()),
        "without a state",
    ),
    "a parameter that is a layer": (
        lambda model: model.model[2]._parameters.update(weight=torch.nn.Identity()),
        "_parameters weight",
    ),
}


class Stateless(torch.nn.Module):
    """Pickles as a layer that is made and never filled."""

    __class__ = torch.nn.Identity

    def __reduce__(self) -> tuple[Any, ...]:
        import copyreg

        return copyreg.__newobj__, (torch.nn.Identity,)  # type: ignore[attr-defined]


def chain(depth: int) -> torch.nn.Module:
    """Layers in one another."""
    layer: torch.nn.Module = torch.nn.Identity()
    for _ in range(depth):
        layer = torch.nn.Sequential(layer)
    return layer


@pytest.mark.usefixtures("memory_limit")
@pytest.mark.parametrize("name", list(LIES))
def test_network_that_would_crash_or_hang(name: str, tmp_path: Path) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    change, words = LIES[name]
    model = make_detector("yolo11n", 1)
    change(model)
    path = tmp_path / "a.pt"
    torch.save({"ema": model}, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_detector(Detection("yolo11n", 1), path)
    assert str(path) in str(caught.value)


def test_yaml_of_a_checkpoint_builds_nothing(tmp_path: Path) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    model = make_detector("yolo11n", 1)
    model.yaml = {"yaml_file": "yolo11n.yaml", "backbone": [[-1, 10**9, "Conv", [10**9]]]}
    load_detector(Detection("yolo11n", 1), save_detector(model, tmp_path / "a.pt"))


def test_fused_layers_keep_their_own_forward(tmp_path: Path) -> None:
    from pillsnap.engines.torch.yolo import load_detector

    model = make_detector("yolo11n", 1)
    images = torch.rand(1, 3, 64, 64)
    model.fuse(verbose=False)
    path = tmp_path / "a.pt"
    torch.save(model, path)  # without a trainer's entries, too
    module = load_detector(Detection("yolo11n", 1), path).module
    with torch.inference_mode():
        wanted = model(images)[0]
        assert torch.equal(module(images)[0, :, 4], wanted[0, 4])
    foreign = model.model[0]
    foreign.forward = model.model[1].forward_fuse
    torch.save(model, path)
    with pytest.raises(CheckpointError, match="a forward of its own"):
        load_detector(Detection("yolo11n", 1), path)
