"""What a fault is, and what it finds on the bench when it is injected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.config.cells import CLASSIFICATION, DETECTION, STAGES
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch, Transform
from pillsnap.export import export_onnx

if TYPE_CHECKING:
    import onnx

CLASSIFIER, DETECTOR = (CLASSIFICATION,), (DETECTION,)
GROUPS = ("preprocessing", "export", "weights", "numeric", "boxes", "runtime")


class NotApplicable(PillsnapError):
    """A fault that is none for this model on these data: nothing of it would differ."""


See = Callable[[Sequence[Sample], Batch], Batch]
Say = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Injection:
    """How the candidate differs from the healthy export; the reference never does.

    Attributes:
        file: an .onnx in place of the healthy one.
        see: what the candidate is fed for a batch's samples and its right array [N,3,H,W].
        say: what it makes of its output.
        provider, precision: of the cell.
        config: of the run, where the fault needs other validation data.
    """

    file: Path | None = None
    see: See | None = None
    say: Say | None = None
    provider: str = "auto"
    precision: str = "fp32"
    config: Config | None = None


@dataclass(frozen=True)
class Bench:
    """A healthy export, and room to break it.

    Attributes:
        config: of the run that will judge.
        transform: the right preprocessing.
        healthy: the .onnx file.
        folder: for files of this one fault.
    """

    config: Config
    stage: str
    transform: Transform
    healthy: Path
    folder: Path

    def model(self) -> onnx.ModelProto:
        """The healthy export, to be changed."""
        import onnx

        return onnx.load(self.healthy)

    def export(self, config: Config, stage: str = "") -> Path:
        """An export of this stage, or of another, as a changed configuration says."""
        export = replace(config.export, out_dir=self.folder)
        return export_onnx(replace(config, export=export), stage or self.stage).path

    def save(self, model: onnx.ModelProto) -> Path:
        """Write a model; one that an exporter has made anew gets the healthy one's metadata, so
        that only its figures can tell."""
        import onnx

        if not model.metadata_props:
            model.metadata_props.extend(self.model().metadata_props)
        path = self.folder / "candidate.onnx"
        onnx.save(model, path)
        return path


Inject = Callable[[Bench], Injection]


@dataclass(frozen=True)
class Fault:
    """One way in which an export can be wrong.

    Attributes:
        magnitude: how wrong, in words.
        refusal: what the gate says of a candidate that it lets not come to figures; None where
            figures must catch it. An injection that failed would pass for a caught fault otherwise.
        blind: why no figure can see it, so that its graph must tell; None for what figures must
            catch.
    """

    name: str
    group: str
    stage: str
    magnitude: str
    inject: Inject = field(repr=False)
    refusal: str | None = None
    blind: str | None = None

    @property
    def id(self) -> str:
        return f"{self.stage}-{self.name}"


_faults: list[Fault] = []


def all_faults() -> tuple[Fault, ...]:
    """Every fault that was declared so far, in order."""
    return tuple(_faults)


def fault(
    group: str,
    magnitude: str,
    stages: Sequence[str] = STAGES,
    *,
    refusal: str | None = None,
    blind: str | None = None,
) -> Callable[[Inject], Inject]:
    """Make a function a fault of each stage, named like the function. It raises NotApplicable
    where the model or its data have nothing to break in this way."""

    def declare(inject: Inject) -> Inject:
        name = inject.__name__
        _faults.extend(
            Fault(name, group, stage, magnitude, inject, refusal, blind) for stage in stages
        )
        return inject

    return declare
