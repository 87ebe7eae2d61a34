"""What stands in a checkpoint: loaded modules, and why a file is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.core.errors import CheckpointError, MissingCheckpoint
from pillsnap.core.placeholders import read_placeholder
from pillsnap.core.urls import is_url
from pillsnap.engines.torch.tensorfile import (
    is_safetensors,
    opens_as_safetensors,
    read_safetensors,
    safetensors_names,
)
from pillsnap.engines.torch.torchfile.budget import Unreadable
from pillsnap.engines.torch.torchfile.container import require_container
from pillsnap.engines.torch.torchfile.reading import pickled_names, read_checkpoint
from pillsnap.engines.torch.trainer import Facts

if TYPE_CHECKING:
    import torch

_YOLO_CLASSIFIER = "ultralytics.nn.tasks.ClassificationModel"


# Of a Detect layer's branches, behind the number of the layer.
_YOLO_HEAD = re.compile(r"(^|\.)model\.[0-9]+\.cv[23]\.[0-9]+\.")

KINDS = "a .pt written by torch.save, or a .safetensors"


@dataclass(frozen=True)
class Origin:
    """Where in a checkpoint a model comes from, and what else the file says.

    Attributes:
        entry: the keys that lead to its weights; "" for weights that stand by themselves.
        entries: of all weights of this network in the file.
        said: what training was told.
        notes: what was done to take the weights, in words.
    """

    entry: str = ""
    entries: tuple[str, ...] = ()
    said: Facts = field(default_factory=Facts)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint as trained, ready to run.

    Attributes:
        module: float32, on the CPU, in evaluation mode. A classifier maps [N,3,S,S] to logits
            [N,classes]; a detector maps [N,3,H,W] to [N,boxes,7], float32: x1, y1, x2, y2 in input
            pixels, the best class's score, its index, and its lead over the second best class
            (infinite where there is one class), before NMS.
        strides: pixels per cell of each detection head, in the order of the boxes; () for a
            classifier, and where boxes are of queries or a builder says no strides.
        class_names: names in the checkpoint by index; () where it has none.
        recorded: top-1 or, of a detector, mAP@0.5:0.95 that training measured, 0 to 1; None where
            the checkpoint does not say.
        origin: where in the checkpoint it comes from.
    """

    module: torch.nn.Module
    strides: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    recorded: float | None = None
    origin: Origin = Origin()


def require_checkpoint(path: Path) -> None:
    """Refuse what cannot be a checkpoint by its first bytes, without unpickling anything.

    Raises:
        MissingCheckpoint: nothing has that path.
        CheckpointError: it is a folder, unreadable, empty, or a file of another kind.
    """
    if not path.exists():
        raise MissingCheckpoint(
            "there is no checkpoint",
            where=path,
            hint="put the trained .pt or .safetensors there, or mend the path",
        )
    if path.is_dir():
        what = "the checkpoint is a folder"
        if is_url(str(path)):
            what += ", or a page of a web server: give the address that hands out the file"
        raise CheckpointError(what, where=path, expected=KINDS)
    if not path.is_file():  # opening a pipe waits for ever
        raise CheckpointError("the checkpoint is no regular file", where=path)
    try:
        kind = _foreign_kind(path)
    except OSError as error:
        raise CheckpointError(
            "cannot read the checkpoint", where=path, got=error.strerror
        ) from error
    except Unreadable as error:
        raise CheckpointError(error.what, where=path, got=error.got, hint=error.hint) from error
    if kind is not None:
        standing = read_placeholder(path)
        raise CheckpointError(
            "this is not a PyTorch checkpoint",
            where=path,
            got=kind if standing is None else standing.kind,
            expected=KINDS,
            hint="give the file that training saved" if standing is None else standing.hint,
        )


def read_content(
    path: Path, layers: Mapping[str, type[torch.nn.Module]], hint: str | None = None
) -> Any:
    """What a checkpoint holds, whichever of the two formats it has; see read_checkpoint, whose
    arguments these are, and read_safetensors."""
    if opens_as_safetensors(path):
        return read_safetensors(path)
    return read_checkpoint(path, layers, hint)


def checkpoint_stage(path: Path) -> str:
    """What a checkpoint is for: detection when it pickles an Ultralytics model or has the names of
    one's head, else classification.

    Nothing is made of it. Errors are require_checkpoint's.
    """
    require_checkpoint(path)
    if opens_as_safetensors(path):
        found = any(_YOLO_HEAD.search(name) for name in safetensors_names(path))
        return DETECTION if found else CLASSIFICATION
    names = pickled_names(path)
    pickled = any(name.startswith("ultralytics.") for name in names)
    return DETECTION if pickled and _YOLO_CLASSIFIER not in names else CLASSIFICATION


def holds_yolo_classifier(path: Path) -> bool:
    """Whether a checkpoint pickles a classifier of ultralytics; nothing is made of it."""
    return not opens_as_safetensors(path) and _YOLO_CLASSIFIER in pickled_names(path)


def require_finite(module: torch.nn.Module, path: Path) -> None:
    """Refuse weights that no comparison can use: a CheckpointError names a parameter or buffer that
    holds NaN or infinity."""
    import torch

    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            broken = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                "the checkpoint has weights that are not finite",
                where=path,
                got=f"{name}: {broken} of {tensor.numel()} values are NaN or infinite",
                hint="training diverged, or float16 overflowed: use an earlier checkpoint",
            )


def _foreign_kind(path: Path) -> str | None:
    """What a file is, when it is certainly no checkpoint; None when it may be one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if size == 0:
        return "an empty file"
    if is_safetensors(head):  # before others: a header's length may read PK
        return None
    if head.startswith(b"PK"):
        return require_container(path)
    if head[0] == 0x80:
        return None  # a pickle, as torch.save wrote before its zip format
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "a text file"
    if head[0] == 0x08 and (b"pytorch" in head or b"onnx" in head.lower()):
        return "an ONNX model"
    return "a file of unknown kind"
