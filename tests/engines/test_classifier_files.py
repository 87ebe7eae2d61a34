"""Classifier checkpoints as trainers write them: where the weights lie, and what they are of."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pillsnap.config.settings import Classification, Config, Export, InputShape, Paths
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.checkpoints import build_classification_model
from tests.small_models import make_classifier

State = dict[str, Any]

CONFIG = Config(
    paths=Paths(Path("exp")),
    classification=Classification("test_resnet", 5),
    export=Export(input_shape=InputShape(classification=(1, 3, 64, 64))),
)


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def load(content: object, path: Path, backbone: str = "test_resnet", size: int = 64) -> Any:
    torch.save(content, path)
    shape = InputShape(classification=(1, 3, size, size))
    config = replace(
        CONFIG,
        classification=Classification(backbone, 5),
        export=replace(CONFIG.export, input_shape=shape),
    )
    return build_classification_model(config, path).module


def refusal(content: object, path: Path, backbone: str = "test_resnet", size: int = 64) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(content, path, backbone, size)
    return " ".join(str(caught.value).split())


def zeros(state: State) -> State:
    return {key: torch.zeros_like(value) for key, value in state.items()}


LAYOUTS: dict[str, Callable[[State], object]] = {
    "lightning": lambda state: {"state_dict": prefixed("model.", state), "epoch": 3},
    "net": lambda state: prefixed("net.", state),
    "backbone, compiled": lambda state: prefixed("backbone._orig_mod.", state),
    "two levels": lambda state: {"model": prefixed("student.encoder.", state)},
    "a loss beside the network": lambda state: {
        "state_dict": {**prefixed("model.", state), "criterion.weight": torch.ones(5)}
    },
    "ema of settings": lambda state: {"state_dict": state, "ema": {"decay": 0.9, "updates": 3}},
    "ema of tensors that are settings": lambda state: {
        "state_dict": state,
        "ema": {"decay": torch.tensor(0.9), "updates": torch.tensor(3)},
    },
    "ema as a list": lambda state: {
        "ema": {"decay": 0.9, "shadow_params": list(state.values())},
        "model": state,
    },
    "ema in a module": lambda state: {
        "model": zeros(state),
        "ema": {"module": state, "decay": 0.9},
    },
    "ema as a shadow": lambda state: {"model": zeros(state), "ema": {"shadow": state}},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_are_found_where_trainers_put_them(name: str, tmp_path: Path) -> None:
    trained = make_classifier()
    found = load(LAYOUTS[name](trained.state_dict()), tmp_path / "c.pt").state_dict()
    assert found.keys() == trained.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in trained.state_dict().items())


def test_weights_behind_two_prefixes_are_not_chosen_from(tmp_path: Path) -> None:
    state = make_classifier().state_dict()
    message = refusal(
        {**prefixed("student.", state), **prefixed("teacher.", state)}, tmp_path / "c"
    )
    assert "student., teacher." in message and "several times" in message


def test_what_does_not_fit_behind_a_prefix_is_named_without_it(tmp_path: Path) -> None:
    state = make_classifier().state_dict()
    del state["fc.bias"]
    message = refusal({"state_dict": prefixed("model.", state)}, tmp_path / "c.pt")
    assert "got: 1 missing: fc.bias expected" in message


@pytest.mark.parametrize("where", ["arch", "args", "dict"])
def test_another_architecture_of_the_same_tensors_is_refused(where: str, tmp_path: Path) -> None:
    name = "tf_mobilenetv3_small_100"
    state = make_classifier(name).state_dict()
    said = {
        "arch": {"arch": name},
        "args": {"args": argparse.Namespace(model=f"{name}.in1k")},
        "dict": {"args": {"model": name}},
    }[where]
    load({"state_dict": state}, tmp_path / "c.pt", "mobilenetv3_small_100")  # the weights fit
    message = refusal(
        {"state_dict": state, **said}, tmp_path / "c.pt", backbone="mobilenetv3_small_100"
    )
    assert f"is a {name}" in message and "config says mobilenetv3_small_100" in message
    assert f"set classification.backbone: {name}" in message


@pytest.mark.parametrize(
    ("arch", "backbone"),
    [
        ("test_resnet", "test_resnet.r160_in1k"),
        ("test_resnet.of_an_older_timm", "test_resnet"),
        ("my_own_network", "test_resnet"),
        (None, "test_resnet"),
        ("resnetv2_50x1_bitm", "resnetv2_50x1_bit"),  # renamed since
    ],
)
def test_the_same_architecture_under_another_name_is_none(
    arch: str | None, backbone: str, tmp_path: Path
) -> None:
    from pillsnap.engines.torch.backbones import require_architecture

    content = {"arch": arch, "args": argparse.Namespace(lr=0.1)}
    require_architecture(Classification(backbone, 5), content, tmp_path / "c.pt")


def test_a_pretrained_tag_that_this_timm_lacks(tmp_path: Path) -> None:
    message = refusal(make_classifier().state_dict(), tmp_path / "c.pt", "test_resnet.r160_in1k_x")
    assert "classification.backbone" in message and "pretrained tag" in message
    assert "test_resnet, test_resnet.r160_in1k" in message


def test_a_vit_at_another_size_than_its_default(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    trained = timm.create_model("test_vit", num_classes=5, img_size=96).eval()
    module = load(trained.state_dict(), tmp_path / "c.pt", "test_vit", size=96)
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(module(images), trained(images))
    message = refusal(trained.state_dict(), tmp_path / "c.pt", "test_vit", size=160)
    assert "pos_embed" in message and "export.input_shape.classification" in message
