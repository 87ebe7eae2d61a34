"""What one shard's run yields, as it travels to the controller and lies in the journal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FailureKind = Literal["skipped", "breach", "unmeasured"]


@dataclass(frozen=True)
class Outcome:
    """What one shard's run yields. `as_json` is what travels to the controller.

    Attributes:
        shard: id of the shard.
        failure: why there are no records: (kind, message).
        samples: how many the shard has, readable or not.
        inputs: SHA-256 of their ids, labels and files; None where one could not be read.
        file, sha256: the records on disk.
        unreadable: reason by sample id.
        non_finite: ids of samples for which the candidate's output is not finite.
        reference, candidate: what the engines say of themselves, once both are open.
        transform, strides: the preprocessing in force and the detector's strides.
        exactness: every PartError of the outputs, as a dict, and how many images they are of; of a
            cell's first shard, where the reference can be run in float64.
        batching: what the candidate's free axes are worth, see gate/free_axes.py; of a cell's first
            shard.
        graph: how the named file's graph differs from a fresh export's, see gate/graph.py; of a
            cell's first shard.
        notes: what a reader of the figures should know of the labels.
        timing: `runs`, images and seconds of the candidate's batches after the first; of a cell's
            first shard also `reference_s`, the reference's seconds an image at that batch,
            `reference_remembered`, whether those are an earlier run's, `alone`, the candidate with
            one image (Alone.as_dict), and `float32_alone`, the same of the float32 file that it was
            made from; null where they were not measured.
        host: of a run on a cluster, where this ran: `node`, `kind` of its processor or GPU, and
            whether other processes may have `contended` for it; None on this machine.
        seconds: wall time, opening the models included.
    """

    shard: str
    failure: tuple[FailureKind, str] | None = None
    samples: int = 0
    inputs: str | None = None
    file: str | None = None
    sha256: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    non_finite: list[str] = field(default_factory=list)
    reference: dict[str, Any] = field(default_factory=dict)
    candidate: dict[str, Any] = field(default_factory=dict)
    transform: dict[str, Any] = field(default_factory=dict)
    strides: list[int] = field(default_factory=list)
    exactness: dict[str, Any] | None = None
    batching: dict[str, Any] | None = None
    graph: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    timing: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_json(self) -> str:
        """`as_dict` in ASCII: a name that is not UTF-8 is a lone surrogate, which xdist's pipe
        refuses, and JSON escapes and gives back."""
        return json.dumps(self.as_dict())
