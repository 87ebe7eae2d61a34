"""The preprocessing that a backbone has in timm, and what config makes of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pillsnap.config.settings import Classification, Config, Export, InputShape, Paths
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.torch.checkpoints import resolve_classify_transform
from pillsnap.pipeline.preprocess import classify_tensor

HALF = (0.5, 0.5, 0.5)


def config(settings: Classification, size: int = 64) -> Config:
    export = Export(input_shape=InputShape(classification=(1, 3, size, size)))
    return Config(Paths(Path("exp")), classification=settings, export=export)


@pytest.mark.parametrize(
    ("name", "crop_mode"),
    [
        ("efficientnetv2_s", "center"),
        ("tf_efficientnetv2_m", "squash"),
        ("dm_nfnet_f0", "squash"),
        ("deepseek_vit_412m", "border"),
        ("volo_d4_448", "center"),  # crop_pct 1.15: the resized image is smaller than the cut
        ("convnext_tiny_in22ft1k", "center"),  # a name that timm has replaced
    ],
)
def test_a_backbones_own_preprocessing_is_timms(name: str, crop_mode: str) -> None:
    import timm
    from timm.models import get_deprecated_models, get_pretrained_cfg

    own = get_pretrained_cfg(get_deprecated_models().get(name) or name)
    side = own.input_size[-1]
    found = resolve_classify_transform(config(Classification(name, 5), side))
    assert found.crop_mode == crop_mode
    asked = timm.data.resolve_data_config({}, pretrained_cfg=own.to_dict())
    photo = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
    theirs = timm.data.create_transform(**asked, is_training=False)(Image.fromarray(photo))
    assert np.array_equal(classify_tensor(photo, found), theirs.numpy())


def test_the_crop_mode_of_config_wins_over_timms() -> None:
    settings = Classification("tf_efficientnetv2_m", 5, crop_mode="center")
    assert resolve_classify_transform(config(settings)).crop_mode == "center"
    assert resolve_classify_transform(config(replace(settings, crop_mode=None))).crop_mode == (
        "squash"
    )


def test_where_all_else_is_given_timm_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    settings = Classification("tf_efficientnetv2_m", 5, HALF, HALF, "bicubic", 1.0)
    assert resolve_classify_transform(config(settings)).crop_mode == "center"
    squash = replace(settings, crop_mode="squash")
    assert resolve_classify_transform(config(squash)).crop_mode == "squash"


@pytest.mark.parametrize(
    "changes",
    [{"crop_mode": "random"}, {"interpolation": "random"}, {"mean": (0.5,)}, {"crop_border": 4}],
)
def test_what_timm_has_and_the_preprocessing_lacks_is_refused_by_name(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm.data

    resolve = timm.data.resolve_data_config
    monkeypatch.setattr(
        timm.data, "resolve_data_config", lambda *args, **kw: resolve(*args, **kw) | changes
    )
    with pytest.raises(CheckpointError) as caught:
        resolve_classify_transform(config(Classification("test_resnet", 5)))
    (name,) = changes
    assert name in str(caught.value) and "test_resnet" in str(caught.value)
