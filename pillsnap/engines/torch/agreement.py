"""What a checkpoint says of its training, held against the configuration.

Both engines share preprocessing and configuration, so no comparison shows what is wrong in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.settings import Config
from pillsnap.core.errors import CheckpointError
from pillsnap.engines.protocol import Transform
from pillsnap.engines.torch.safe_load import Origin
from pillsnap.engines.torch.trainer import Facts, Sides

# Of a mean or deviation on the scale 0 to 1, about one grey level: a matter of rounding.
_ROUNDED = 0.005


def another_architecture(found: str, key: str, configured: str, path: Path) -> CheckpointError:
    """The error of a checkpoint of another architecture than config's key says."""
    return CheckpointError(
        f"the checkpoint is a {found}, config says {configured}",
        where=path,
        got=found,
        expected=f"{configured} ({key})",
        hint=f"set {key}: {found}, or use the right checkpoint",
    )


def another_head(
    what: str, classes: object, key: str, configured: int, path: Path
) -> CheckpointError:
    """The error of a detector or classifier of another number of classes."""
    return CheckpointError(
        f"{what} of {classes} classes, config says {configured}",
        where=path,
        got=f"{classes} classes",
        expected=f"{configured} ({key})",
        hint=f"set {key}: {classes}, or use the right checkpoint",
    )


@dataclass(frozen=True)
class Difference:
    """One thing that checkpoint and configuration tell differently.

    Attributes:
        argument: of the trainer, as "args.mean".
        setting: config's key.
        told, configured: both values, as config would write them.
        refused: whether the network would be another function, or be fed other numbers.
    """

    argument: str
    setting: str
    told: str
    configured: str
    refused: bool = False

    def __str__(self) -> str:
        return (
            f"the checkpoint says {self.argument} {self.told}, config says {self.configured} "
            f"({self.setting})"
        )


def require_agreement(
    config: Config, stage: str, said: Facts, transform: Transform, path: Path
) -> None:
    """Refuse what makes another function of the trained one: a CheckpointError of the first such
    difference."""
    for found in _differences(config, stage, said, transform):
        if found.refused:
            raise CheckpointError(
                "the checkpoint was trained otherwise than config says",
                where=path,
                got=f"{found.argument}: {found.told}",
                expected=f"{found.setting}: {found.configured}",
                hint=f"set {found.setting}: {found.told}",
            )


def origin_notes(config: Config, stage: str, origin: Origin, transform: Transform) -> list[str]:
    """What a reader of the report should know of the checkpoint: which of several entries was
    taken, what was done to its weights, and what it says otherwise than config."""
    choice = choice_in_words(stage, origin)
    notes = [choice] if choice else []
    notes += [*origin.notes, *map(str, _differences(config, stage, origin.said, transform))]
    return [f"{stage}: {note}" for note in notes]


def choice_in_words(stage: str, origin: Origin) -> str | None:
    """Which of a checkpoint's entries was taken; None where there is one alone."""
    others = ", ".join(entry for entry in origin.entries if entry != origin.entry)
    if not others:
        return None
    return (
        f"weights of the checkpoint's {origin.entry}, beside {others}; "
        f"{stage}.checkpoint_entry chooses"
    )


def _differences(
    config: Config, stage: str, said: Facts, transform: Transform
) -> Iterator[Difference]:
    find = {CLASSIFICATION: _of_classifier, DETECTION: _of_detector}
    return find[stage](config, said, transform)


def _of_classifier(config: Config, said: Facts, transform: Any) -> Iterator[Difference]:
    for name in ("mean", "std"):
        told, own = getattr(said, name), getattr(transform, name)
        if told is not None and max(abs(a - b) for a, b in zip(told, own, strict=True)) > _ROUNDED:
            setting = f"classification.{name}"
            argument = f"{said.place}.{name}"
            yield Difference(argument, setting, _text(told), _text(own), refused=True)
    for name in ("interpolation", "crop_pct"):
        told, own = getattr(said, name), getattr(transform, name)
        if told not in (None, own):
            argument = f"{said.place}.{name}"
            yield Difference(argument, f"classification.{name}", _text(told), _text(own))
    yield from _of_size(config, CLASSIFICATION, f"{said.place}.img_size", said.size)


def _of_detector(config: Config, said: Facts, _: Any) -> Iterator[Difference]:
    yield from _of_size(config, DETECTION, "train_args.imgsz", said.size)
    combo = config.data.val.combo
    own = None if combo is None or not combo.is_labelled else combo.single_cls
    if own is not None and said.single_cls not in (None, own):
        setting = "data.val.combo.single_cls"
        yield Difference("train_args.single_cls", setting, _text(said.single_cls), _text(own))


def _of_size(config: Config, stage: str, argument: str, told: Sides | None) -> Iterator[Difference]:
    # Ultralytics' rectangles have one side of the size it is told.
    own = config.input_shape(stage)[2:]
    if told is not None and max(told) != max(own):
        yield Difference(argument, f"export.input_shape.{stage}", _text(told), _text(own))


def _text(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
