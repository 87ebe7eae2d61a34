"""What training wrote into a checkpoint beside the weights: what it was told of the network and its
input, by its arguments, and how good it became."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pillsnap.config.settings import GlobalPool, Interpolation
from pillsnap.engines.torch.torchfile.objects import StandIn, entries_of

Sides = tuple[float, float]
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Facts:
    """What training was told, as far as the checkpoint says it and it can be read.

    Attributes:
        pooling: a classifier's global pooling, a GlobalPool; "" is the backbone's own.
        mean, std: of the channels R, G, B, on the scale 0 to 1.
        interpolation: a filter's name.
        crop_pct: see ClassifyTransform.
        size: height and width of the input in pixels.
        single_cls: whether a detector was taught all classes as one.
        data: a detector's data.yaml, as training was told it.
        place: where in the checkpoint a classifier's stand.
    """

    pooling: GlobalPool | Literal[""] | None = None
    mean: Channels | None = None
    std: Channels | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    size: Sides | None = None
    single_cls: bool | None = None
    data: str | None = None
    place: str = "args"


def training_arguments(content: object) -> Mapping[str, Any]:
    """The command line of timm's trainer by name: `args`, a Namespace or a dict; else nothing."""
    return entries_of(entries_of(content).get("args"))


def classifier_facts(content: object) -> Facts:
    """Of the arguments of timm's trainer."""
    told = training_arguments(content)
    shape = _numbers(told.get("input_size"), 3)  # which goes before img_size
    return Facts(
        pooling=_pooling(told["gp"]) if "gp" in told else None,
        mean=_channels(told.get("mean")),
        std=_channels(told.get("std")),
        interpolation=_one_of(told.get("interpolation"), get_args(Interpolation)),
        crop_pct=_number(told.get("crop_pct")),
        size=_sides(shape[1:] if shape else told.get("img_size")),
    )


def detector_facts(content: object) -> Facts:
    """Of the arguments of ultralytics' trainer."""
    told = entries_of(entries_of(content).get("train_args"))
    single, data = told.get("single_cls"), told.get("data")
    return Facts(
        size=_sides(told.get("imgsz")),
        single_cls=single if isinstance(single, bool) else None,
        data=data if isinstance(data, str) else None,
    )


def transform_facts(content: object, transforms: object) -> Facts:
    """Of the arguments of ultralytics' trainer, and of the transforms of torchvision by which it
    fed a classifier, which its model holds."""
    listed = entries_of(transforms).get("transforms")
    steps = {
        each.name.rpartition(".")[2]: entries_of(each)
        for each in (listed if isinstance(listed, list | tuple) else ())
        if isinstance(each, StandIn)
    }
    resize, normalize = steps.get("Resize", {}), steps.get("Normalize", {})
    size = _sides(steps.get("CenterCrop", {}).get("size"))
    resized, mode = _sides(resize.get("size")), resize.get("interpolation")
    values = mode.state if isinstance(mode, StandIn) and isinstance(mode.state, tuple) else ()
    return Facts(
        mean=_channels(_listed(normalize.get("mean"))),
        std=_channels(_listed(normalize.get("std"))),
        interpolation=_one_of(next(iter(values), None), get_args(Interpolation)),
        crop_pct=min(size) / min(resized) if size and resized and min(resized) else None,
        size=size or detector_facts(content).size,
        place="model.transforms",
    )


def _listed(values: object) -> object:
    """A tensor of a few numbers as a list; anything else as it is."""
    found: Any = values
    return found.tolist() if getattr(found, "shape", None) in ((1,), (3,)) else values


def recorded_accuracy(content: object) -> float | None:
    """Top-1, 0 to 1, that ultralytics' trainer measured; None where it did not say."""
    return _recorded(content, "metrics/accuracy_top1")


def recorded_top1(content: object) -> float | None:
    """Top-1, 0 to 1, that timm's trainer measured: `metric`, where its arguments say that top-1 was
    what it went by. Else None: a loss or an accuracy of other trainers stand there as well."""
    if training_arguments(content).get("eval_metric") != "top1":
        return None
    percent = _any_number(entries_of(content).get("metric"))
    return None if percent is None else _rate(percent / 100)


def recorded_map(content: object) -> float | None:
    """mAP@0.5:0.95, 0 to 1, that ultralytics' trainer measured; None where it did not say."""
    return _recorded(content, "metrics/mAP50-95(B)")


def _recorded(content: object, name: str) -> float | None:
    number = _any_number(entries_of(entries_of(content).get("train_metrics")).get(name))
    return None if number is None else _rate(number)


def _any_number(value: Any) -> float | None:
    """A float of a number of Python, numpy or torch; None of anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


def _rate(value: float) -> float | None:
    # An average that was not trained, or a run of no epoch, has 0.
    return value if 0 < value <= 1 else None


def _pooling(told: object) -> Any:
    if told in (None, ""):
        return ""
    # timm's fast ones are the same, computed by other functions.
    name = str(told).lower().removeprefix("fast") or "avg"
    return _one_of(name, get_args(GlobalPool))


def _one_of(value: object, known: tuple[str, ...]) -> str | None:
    return value if isinstance(value, str) and value in known else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # An integer may be too long for a float.
    return value if 0 <= value <= sys.float_info.max and not math.isinf(value) else None


def _numbers(value: object, count: int) -> tuple[float, ...] | None:
    if not isinstance(value, list | tuple) or len(value) != count:
        return None
    numbers = tuple(number for each in value if (number := _number(each)) is not None)
    return numbers if len(numbers) == count else None


def _channels(value: object) -> Channels | None:
    """Three values, or one for all; on the scale 0 to 255 too."""
    one = _numbers(value, 1)
    found = _numbers(value, 3) if one is None else one * 3
    if found is None:
        return None
    scale = 255 if max(found) > 1 else 1
    red, green, blue = (each / scale for each in found)
    return red, green, blue


def _sides(value: object) -> Sides | None:
    one = _number(value)
    sides = _numbers(value, 2) if one is None else (one, one)
    return None if sides is None else (sides[0], sides[1])
