"""The detector's part of a new config.yaml."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pillsnap.config.cells import DETECTION
from pillsnap.core.printable import printable
from pillsnap.data.datayaml import labels_beside, read_data_yaml
from pillsnap.data.listing import list_images
from pillsnap.engines.torch.describing import Told, describe_detector
from pillsnap.gate.init.draft import Draft
from pillsnap.gate.init.lines import line, path_from, require_images, section


def add_detector(draft: Draft, checkpoint: Path, data: Path | None) -> None:
    """Add what a checkpoint and a data.yaml, or a folder of images, say; raises PillsnapError."""
    told = describe_detector(checkpoint)
    shape = told.size and (1, 3, *map(int, told.size))
    draft.found.append(
        f"detector {checkpoint}: {told.architecture or 'unnamed'}, classes: {told.num_classes}"
        + (f" ({numbered(told.class_names)})" if told.class_names else "")
        + (f", {shape[2]} x {shape[3]} pixels" if shape else "")
    )
    draft.sections[DETECTION] = [
        line("checkpoint", path_from(draft.folder, checkpoint)),
        line("model", told.architecture, "name of the model in ultralytics, as yolo11m"),
        line(
            "num_classes",
            told.num_classes,
            "how many it was trained for",
            numbered(told.class_names),
        ),
    ]
    draft.shapes.append(
        line(DETECTION, shape, "[1, 3, H, W]; ultralytics' own is [1, 3, 640, 640]")
    )
    trained = Path(told.said.data or "")
    if data is None and trained.is_file():
        draft.found.append(f"the data are those that training was told: {trained}")
        # Training tells it from the root; what lies below moves with the repository.
        below = trained.is_relative_to(Path.cwd())
        data = trained.relative_to(Path.cwd()) if below else trained
    draft.validation += _scenes(draft, told, data)


def numbered(names: tuple[str, ...], most: int = 8) -> str:
    """Such as "0 tablet, 1 capsule"."""
    shown = ", ".join(f"{index} {printable(name, 40)}" for index, name in enumerate(names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _scenes(draft: Draft, told: Told, data: Path | None) -> list[str]:
    if data is None:
        choices = "path of a data.yaml, or {images: folder, labels: folder or COCO .json}"
        return [line("combo", None, choices)]
    images, extra = path_from(draft.folder, data), []
    if data.is_dir():
        pictures = list(list_images(data))
        require_images(pictures, data)
        labels = _labels_beside(data)
        if labels is not None:
            extra = [line("labels", path_from(draft.folder, labels))]
        lacking_labels = "" if extra else ", no labels"
        draft.found.append(f"scenes {data}: {len(pictures)} images{lacking_labels}")
    else:
        found = read_data_yaml(data, Counter())
        require_images(found.pairs, data)
        lacking = sum(not Path("/", label).is_file() for _, label in found.pairs)
        draft.found.append(
            f"scenes {data}: {len(found.pairs)} images, background without a label file: {lacking}"
            + (f"; classes: {numbered(found.names)}" if found.names else "")
        )
    if told.said.single_cls:
        extra.append(line("single_cls", True, about="as in training"))
    return section("combo", [line("images", images), *extra]) if extra else [line("combo", images)]


def _labels_beside(images: Path) -> Path | None:
    """The folder with labels in place of the last images in the path, if there is one."""
    beside = labels_beside(f"/{images}/")
    labels = Path(beside[1:]) if beside else None
    return labels if labels is not None and labels.is_dir() else None
