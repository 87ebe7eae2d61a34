"""Which stage a file is of: by its metadata, else by the shapes of its input and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.core.errors import EngineError
from pillsnap.export.forms import FORMS

PREFIX = "pillsnap."

# The stage by what ultralytics' exports call their task.
ULTRALYTICS_TASKS = {"detect": DETECTION, "classify": CLASSIFICATION}

# By which commands that run both models take one.
_OPTIONS = {DETECTION: "--detector", CLASSIFICATION: "--model"}

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Signature:
    """What a file says of itself.

    Attributes:
        image: shape of its first input; None where an axis is free.
        outputs: shapes, by name.
        entries: metadata, keys as they stand in the file.
    """

    image: Shape
    outputs: Mapping[str, Shape]
    entries: Mapping[str, str]


def stage_in(signature: Signature) -> str:
    """detection, classification or neither: by metadata, else by the first output that can be one
    of a detector, [N,boxes,columns] in any order, or of a classifier, [N,classes]."""
    return next(iter(_possible_stages(signature)), "neither")


def _possible_stages(signature: Signature) -> list[str]:
    """What a model may be for, the likeliest first."""
    if len(signature.image) != 4:
        return []
    by_rank = {form.rank: stage for stage, form in FORMS.items()}
    # A classifier may end in a convolution: [N,classes,1,1].
    shapes = signature.outputs.values()
    ranks = [2 if shape[2:] == (1, 1) else len(shape) for shape in shapes]
    possible = list(dict.fromkeys(by_rank[rank] for rank in ranks if rank in by_rank))
    entries = signature.entries
    told = entries.get(PREFIX + "stage")
    if told is None and entries.get("author") == "Ultralytics" and "task" in entries:
        told = ULTRALYTICS_TASKS.get(entries["task"], entries["task"])
    return possible if told is None else [stage for stage in possible if stage == told]


def require_stage(signature: Signature, stage: str, path: Path) -> None:
    """Raises EngineError for a model of the other stage, or of neither."""
    if stage in _possible_stages(signature):
        return
    found = stage_in(signature)
    what = f"this is not a model for {stage}"
    hint = f"give an .onnx that pillsnap exported for {stage}"
    if found in FORMS:
        what = f"this model is for {found}, not for {stage}"
        hint = (
            f"give it as the {found} model: --candidate {found}={path} of pillsnap gate, "
            f"{_OPTIONS[found]} of infer and pipeline"
        )
    shapes = (
        f"{name} [{','.join('?' if size is None else str(size) for size in shape)}]"
        for name, shape in signature.outputs.items()
    )
    raise EngineError(
        what,
        where=path,
        got=f"output {', '.join(shapes)}",
        expected=f"one image input [N,3,H,W] and an output {FORMS[stage].words}",
        hint=hint,
    )
