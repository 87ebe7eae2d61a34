"""Names that other tools leave in a state dict: taken with the same function, or explained."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch.nn.utils import parametrizations, prune

from pillsnap.config.settings import Classification, Detection
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.leftovers import leftover_hint
from pillsnap.engines.torch.timm_models import load_classifier
from pillsnap.engines.torch.yolo import load_detector
from tests.small_models import make_classifier, make_detector, save_detector

old: Any = torch.nn.utils  # its deprecated functions have no types
SETTINGS = Classification("test_resnet", 5)


def convolutions(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]


def count_operations(model: Any) -> None:
    for module in model.modules():  # as thop.profile does
        for name in ("total_ops", "total_params"):
            module.register_buffer(name, torch.zeros(1, dtype=torch.float64))


def prune_all(model: Any) -> None:
    for module in convolutions(model):
        prune.l1_unstructured(module, "weight", amount=0.3)


def on_all(tool: Callable[..., Any], **options: Any) -> Callable[[Any], None]:
    def apply(model: Any) -> None:
        model.train()  # spectral_norm finds its vectors so
        for module in (*convolutions(model), model.fc):
            tool(module, **options)
        model(torch.rand(2, 3, 64, 64))
        model.eval()

    return apply


TOOLS: dict[str, tuple[Callable[[Any], None], str]] = {
    "thop": (count_operations, "counters of thop"),
    "prune": (prune_all, "masks of pruning"),
    "weight_norm": (on_all(old.weight_norm), "weight_norm"),
    "weight_norm of the whole": (on_all(old.weight_norm, dim=None), "weight_norm"),
    "weight_norm by inputs": (on_all(old.weight_norm, dim=1), "weight_norm"),
    "parametrized weight_norm": (on_all(parametrizations.weight_norm), "weight_norm"),
    "spectral_norm": (on_all(old.spectral_norm), "spectral_norm"),
    "parametrized spectral_norm": (on_all(parametrizations.spectral_norm), "spectral_norm"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("tool", TOOLS)
def test_what_keeps_the_function_is_taken_and_said(tool: str, prefix: str, tmp_path: Path) -> None:
    apply, words = TOOLS[tool]
    trained, path = make_classifier(), tmp_path / "c.pt"
    apply(trained)
    state = trained.state_dict()
    assert state.keys() != make_classifier().state_dict().keys()
    torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, path)
    loaded = load_classifier(SETTINGS, path)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.module(images), trained(images))
    (note,) = loaded.origin.notes
    assert words in note


def renamed(**pairs: str) -> dict[str, Any]:
    state = make_classifier().state_dict()
    for before, after in pairs.items():
        state[after] = state.pop(before.replace("__", "."))
    return state


HINTS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "LoRA": (
        lambda: (
            {
                "base_model.model." + key: value
                for key, value in renamed(fc__weight="fc.base_layer.weight").items()
            }
            | {"base_model.model.fc.lora_A.default.weight": torch.ones(4, 2)}
        ),
        r"merge_and_unload\(\)",
    ),
    "fake quantisation": (
        lambda: {
            **renamed(),
            "fc.weight_fake_quant.scale": torch.ones(1),
            "fc.weight_fake_quant.zero_point": torch.zeros(1),
        },
        "before it was prepared",
    ),
    "another parametrization": (
        lambda: renamed(fc__weight="fc.parametrizations.weight.original"),
        "remove_parametrizations",
    ),
    "a mask of another shape": (
        lambda: {**renamed(fc__weight="fc.weight_orig"), "fc.weight_mask": torch.ones(3)},
        r"prune\.remove",
    ),
    "half of weight_norm": (lambda: renamed(fc__weight="fc.weight_v"), "remove_weight_norm"),
    "something beside": (lambda: {**renamed(), "extra": torch.ones(1)}, "save the state dict w"),
}


@pytest.mark.parametrize("name", HINTS)
def test_what_cannot_be_taken_says_what_to_call_before_saving(name: str, tmp_path: Path) -> None:
    make, words = HINTS[name]
    torch.save(make(), tmp_path / "c.pt")
    with pytest.raises(CheckpointError) as caught:
        load_classifier(SETTINGS, tmp_path / "c.pt")
    text = " ".join(str(caught.value).split())
    assert re.search(words, text) and "classification.backbone" not in text


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (
            "adapters of peft",
            "fc.lora_A.default.weight fc.base_layer.weight base_model.model.fc.weight peft.tuners",
        ),
        (
            "of quantisation",
            "fc.weight_fake_quant.scale fc.observer_enabled fc.activation_post_process.min_val "
            "fc.input_quantizer.scale fc._amax fc.zero_point fc._packed_params.dtype",
        ),
        ("of torch.nn.utils.parametrize", "fc.parametrizations.weight.original"),
        ("of pruning", "fc.weight_mask torch.nn.utils.prune.L1Unstructured"),
        (
            "of weight_norm or spectral_norm",
            "fc.weight_g fc.weight_v fc.weight_u fc.weight_orig "
            "torch.nn.utils.weight_norm.WeightNorm torch.nn.utils.spectral_norm.SpectralNorm",
        ),
        ("", "fc.weight conv.weight_map head.lorax.weight"),
    ],
)
def test_each_name_that_a_tool_leaves_has_its_hint(words: str, names: str) -> None:
    for name in names.split():
        hint = leftover_hint([name])
        assert (hint is None) if not words else (hint is not None and words in hint), name


def published_convnext(state: dict[str, Any]) -> dict[str, Any]:
    """The names of facebookresearch/ConvNeXt, which timm 0.5 kept."""
    names = {
        r"^stem\.(\d)": r"downsample_layers.0.\1",
        r"stages\.(\d+)\.downsample\.(\d)": r"downsample_layers.\1.\2",
        r"stages\.(\d+)\.blocks\.(\d+)\.": r"stages.\1.\2.",
        "conv_dw": "dwconv",
        r"mlp\.fc": "pwconv",
        r"head\.fc\.": "head.",
        r"head\.norm\.": "norm.",
    }
    found = {}
    for key, value in state.items():
        for new, before in names.items():
            key = re.sub(new, before, key)
        found[key] = value.flatten(1) if "pwconv" in key and value.ndim == 4 else value
    return found


@pytest.mark.parametrize("entry", ["state_dict", "state_dict_ema"])
def test_names_of_an_older_timm_are_taken_as_timm_takes_them(entry: str, tmp_path: Path) -> None:
    trained, path = make_classifier("test_convnext"), tmp_path / "c.pt"
    state = published_convnext(trained.state_dict())
    assert state.keys() != trained.state_dict().keys()
    torch.save({entry: {f"module.{key}": value for key, value in state.items()}}, path)
    loaded = load_classifier(Classification("test_convnext", 5), path)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.module(images), trained(images))
    assert loaded.origin.entry == entry and "older timm" in loaded.origin.notes[0]


def test_weights_of_another_image_size_are_not_resampled(tmp_path: Path) -> None:
    trained = timm.create_model("test_vit", num_classes=5, img_size=96).eval()
    state = {**trained.state_dict(), "mask_token": torch.zeros(1, 1)}  # which timm leaves out
    torch.save(state, tmp_path / "c.pt")
    settings, images = Classification("test_vit", 5), torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        loaded = load_classifier(settings, tmp_path / "c.pt", size=96)
        assert torch.equal(loaded.module(images), trained(images))
    with pytest.raises(CheckpointError, match="pos_embed"):
        load_classifier(settings, tmp_path / "c.pt", size=160)


def test_detectors_with_leftovers_are_taken_or_say_what_to_call(tmp_path: Path) -> None:
    settings = Detection("yolo11n", 1)
    counted = make_detector("yolo11n", 1)
    count_operations(counted)  # of activations that layers share, too
    load_detector(settings, save_detector(counted, tmp_path / "d.pt"))
    pruned = make_detector("yolo11n", 1)
    prune_all(pruned)
    with pytest.raises(CheckpointError, match=r"prune\.remove"):
        load_detector(settings, save_detector(pruned, tmp_path / "d.pt"))


def test_names_that_nobody_knows_may_be_of_another_timm(tmp_path: Path) -> None:
    state = {f"x{index}": value for index, value in enumerate(renamed().values())}
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="another version of timm"):
        load_classifier(SETTINGS, tmp_path / "c.pt")


def test_a_checkpoint_of_grey_images_says_so(tmp_path: Path) -> None:
    grey = timm.create_model("test_resnet", num_classes=5, in_chans=1)
    torch.save(grey.state_dict(), tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="of 1-channel images, and every") as caught:
        load_classifier(SETTINGS, tmp_path / "c.pt")
    assert "train on RGB images (in_chans 3" in str(caught.value)
