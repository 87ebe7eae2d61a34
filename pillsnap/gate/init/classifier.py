"""The classifier's part of a new config.yaml."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import get_args

from pillsnap.config.cells import CLASSIFICATION
from pillsnap.config.settings import Interpolation
from pillsnap.core.errors import DataError
from pillsnap.data.listing import folder_rows, manifest_rows
from pillsnap.data.maps import number_folders, read_class_map
from pillsnap.engines.torch.backbones import data_config, is_yolo
from pillsnap.engines.torch.describing import Told, describe_classifier
from pillsnap.gate.init.draft import Draft
from pillsnap.gate.init.lines import line, path_from, require_images, to_yaml

# Photos in coverage, at least: a rate below 1 % takes 300 that do not flip.
_COVERED = 300

# What there is to choose from, by key; what is its trainer's for the backbone is put first.
_CHOICES = {
    "mean": ("[0.485, 0.456, 0.406]", "[0.5, 0.5, 0.5]", "[0, 0, 0]"),
    "std": ("[0.229, 0.224, 0.225]", "[0.5, 0.5, 0.5]", "[1, 1, 1]"),
    "interpolation": get_args(Interpolation),
    "crop_pct": ("0.875 for Resize(256) and CenterCrop(224)", "1.0 without a crop"),
    "crop_mode": ("center", "squash for Resize((S, S))", "border"),
}


def add_classifier(
    draft: Draft, checkpoint: Path, backbone: str | None, data: Path | None, class_map: Path | None
) -> None:
    """Add what a checkpoint, class folders (or a manifest) and a class map say; raises
    PillsnapError."""
    told = describe_classifier(checkpoint, backbone)
    own = {} if told.architecture is None else data_config(told.architecture)

    def choices(key: str, value: object) -> str:
        others, first = _CHOICES.get(key, ("[1, 3, S, S], as in training",)), to_yaml(value)
        if not own:
            return ", ".join(others)
        left = (other for other in others if other.split(" for ")[0] != first)
        whose = "ultralytics'" if is_yolo(str(told.architecture)) else "timm's"
        return ", ".join([f"{first} ({whose} for {told.architecture})", *left])

    square = told.size and int(told.size[0]) if told.size and len({*told.size}) == 1 else None
    shape = square and (1, 3, square, square)
    draft.sections[CLASSIFICATION] = [
        line("checkpoint", path_from(draft.folder, checkpoint)),
        line("backbone", told.architecture, "name of the model in timm; init --backbone NAME"),
        line("num_classes", told.num_classes, "size of the head"),
        *(line(key, told.preprocessing.get(key), choices(key, own.get(key))) for key in _CHOICES),
    ]
    draft.shapes.append(line(CLASSIFICATION, shape, choices("", (1, *own.get("input_size", ())))))
    draft.compare += [
        "expected_top1: null  # 0 to 1, as training measured it: a wrong value above is then found",
        line("per_class_k", _per_class(told.num_classes), about="coverage: photos of each class"),
    ]
    size = f", {square} x {square} pixels" if square else ""
    name = told.architecture or "backbone unknown"
    draft.found.append(f"classifier {checkpoint}: {name}, classes: {told.num_classes}{size}")
    if data is None:
        draft.validation.append(line("single", None, "folder of class folders, or a CSV manifest"))
    else:
        draft.validation.append(line("single", path_from(draft.folder, data)))
    _add_class_map(draft, told, data, class_map)


def _per_class(classes: int | None) -> int:
    """Photos of each class in coverage, some hundreds in all where there are few classes."""
    return max(1, math.ceil(_COVERED / (classes or _COVERED)))


def _add_class_map(draft: Draft, told: Told, data: Path | None, class_map: Path | None) -> None:
    """The map that is given, or one of the class folders, where these tell the order."""
    count, why = told.num_classes, "JSON file {class folder: class index}"
    if data is not None:
        rows = manifest_rows(data) if data.is_file() else folder_rows(data, Counter())
        names = [name for _, name, _ in rows]
        require_images(names, data)
        draft.found.append(f"photos {data}: {len(names)} in {len({*names})} class folders")
    if class_map is not None:
        if count is not None:
            read_class_map(class_map, count)
        draft.data.append(line("class_map", path_from(draft.folder, class_map)))
        return
    if data is not None and data.is_dir() and count is not None:
        try:
            numbers = number_folders(data, count)
        except DataError as error:
            why += f"; {error.what}"
        else:
            file = draft.folder / "class_map.json"
            draft.files[file] = json.dumps(numbers, indent=2, ensure_ascii=False) + "\n"
            about = "class folders in alphabetical order, as timm and torchvision number them"
            draft.data.append(line("class_map", file.name, about=about))
            draft.found.append(f"class map: {about}; check it where training had another order")
            return
    draft.data.append(line("class_map", None, why))
