"""What stands in a .pt file: loaded modules, and why a file is refused."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickletools import genops
from typing import TYPE_CHECKING, NoReturn

from pillsnap.core.errors import CheckpointError, MissingCheckpoint, first_line

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint as trained, ready to run.

    Attributes:
        module: float32, on the CPU, in evaluation mode. A classifier maps [N,3,S,S] to logits
            [N,classes]; a detector maps [N,3,H,W] to [N,boxes,7], float32: x1, y1, x2, y2 in input
            pixels, the best class's score, its index, and its lead over the second best class
            (infinite where there is one class), before NMS.
        strides: pixels per cell of each detection head, in the order of the boxes; () for a
            classifier.
        class_names: names in the checkpoint by index; () for a classifier.
        recorded: top-1 or, of a detector, mAP@0.5:0.95 that training measured, 0 to 1; None where
            the checkpoint does not say.
    """

    module: torch.nn.Module
    strides: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    recorded: float | None = None


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
            hint="put the trained .pt there, or change paths.exp_dir",
        )
    if path.is_dir():
        raise CheckpointError("the checkpoint is a folder", where=path, expected="a .pt file")
    try:
        kind = _foreign_kind(path)
    except OSError as error:
        raise CheckpointError(
            "cannot read the checkpoint", where=path, got=error.strerror
        ) from error
    if kind is not None:
        raise CheckpointError(
            "this is not a PyTorch checkpoint",
            where=path,
            got=kind,
            expected="a .pt file written by torch.save",
            hint="give the .pt that training saved",
        )


def checkpoint_stage(path: Path) -> str:
    """What a .pt is for: detection when it pickles an Ultralytics model, else classification.

    Nothing is unpickled.

    Raises:
        MissingCheckpoint, CheckpointError: as require_checkpoint.
    """
    require_checkpoint(path)
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            names = [str(value) for _, value, _ in genops(archive.read(name))]
    except (zipfile.BadZipFile, StopIteration, ValueError):
        return "classification"  # its loader says what is wrong with the file
    pickled = any(name.startswith("ultralytics.") for name in names)
    return "detection" if pickled else "classification"


def refuse_unreadable(path: Path, error: Exception) -> NoReturn:
    """Say why torch would not load a file that looked like a checkpoint.

    Call it where torch's list of safe globals is still the one of the load that failed.

    Raises:
        CheckpointError: always.
    """
    unsafe = _unsafe_globals(path, error)
    if unsafe:
        raise CheckpointError(
            "the checkpoint is refused: loading it would call code that is not on the safe list",
            where=path,
            got=", ".join(unsafe[:5]) + (f" and {len(unsafe) - 5} more" if unsafe[5:] else ""),
            expected="tensors and plain values; for a detector an Ultralytics model",
            hint="if you trust its origin, load it there and save model.state_dict() instead",
        ) from error
    raise CheckpointError(
        "the checkpoint is damaged, or was not written by torch.save",
        where=path,
        got=first_line(error, 200),
        hint="copy or save the file again; it may have been cut off while it was written",
    ) from error


def require_finite(module: torch.nn.Module, path: Path) -> None:
    """Refuse weights that no comparison can use.

    Raises:
        CheckpointError: a parameter or buffer holds NaN or infinity, named.
    """
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
    if head.startswith(b"PK"):
        return _foreign_zip(path)
    if head[0] == 0x80:
        return None  # a pickle, as torch.save wrote before its zip format
    if int.from_bytes(head[:8], "little") < size and head[8:9] == b"{":
        return "a safetensors file"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "a text file"
    if head[0] == 0x08 and (b"pytorch" in head or b"onnx" in head.lower()):
        return "an ONNX model"
    return "a file of unknown kind"


def _foreign_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/", 1)[-1] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return "a zip archive without its end: the file is truncated"
    if "constants.pkl" in names:
        return "a TorchScript archive"
    return None if "data.pkl" in names else "a zip archive of something else"


def _unsafe_globals(path: Path, error: Exception) -> list[str]:
    """Names beyond torch's safe list that the pickle would import, found without running it."""
    import torch

    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(os.fspath(path)))
    except Exception:  # only the zip format can be scanned; torch names the first one it met
        return re.findall(r"GLOBAL ([\w.]+)", f"{error} {error.__cause__}")[:1]
