"""One stage's reference and a few photos, to which a candidate file is held without a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pillsnap.compare import compare_batches
from pillsnap.compare.exactness import exactness_metrics
from pillsnap.compare.loading import Prepared, load_batches
from pillsnap.compare.tasks import read_samples, task_of
from pillsnap.compare.verdict import Verdict, judge
from pillsnap.config.cells import Cell
from pillsnap.config.figures import EXACTNESS
from pillsnap.config.settings import Config
from pillsnap.engines import Batch, Request
from pillsnap.engines.torch.engine import open_reference
from pillsnap.gate.candidates import choose_file, open_candidate


@dataclass
class Bench:
    """One stage's reference and four photos; candidates are held to it without a run."""

    config: Config
    stage: str
    given: Prepared | None = None
    one_to_one: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cell = Cell(self.stage, "onnx", "cpu", "fp32", "smoke")
        self.request = Request(self.config, self.cell, threads=1, one_to_one=self.one_to_one)
        self.reference = open_reference(self.request)
        self.batch = self.given or self._photos()
        self.answer = self.reference.engine.run(self.batch.array)

    def _photos(self) -> Prepared:
        samples = [s for s in read_samples(self.config, self.stage) if s.boxes != ()][:4]
        (batch,) = load_batches(samples, self.reference.transform, len(samples))
        return batch

    @cached_property
    def exact(self) -> Any:
        assert self.reference.exact is not None
        return self.reference.exact(self.batch.array)

    def judge(
        self, file: Path, layout: str | None = None, profile: str = "strict"
    ) -> tuple[Verdict, Mapping[str, Any]]:
        """The verdict of figures alone, and the layout."""
        cell = replace(self.cell, precision="fp32" if profile == "strict" else profile)
        candidate = open_candidate(
            replace(self.request, cell=cell),
            lambda: choose_file(
                self.request,
                self.reference,
                named=file,
                fresh=False,
                run_dir=file.parent,
                convert=lambda exported: exported,
            ),
            self.reference,
            layout,
        )
        task, found = task_of(self.stage), candidate.info["layout"]
        recorder = task.recorder_for(self.reference, self.config.nms, found)
        outputs: list[Batch] = []
        compared = compare_batches(
            [self.batch],
            lambda _: self.answer,
            candidate,
            recorder,
            lambda batch, ref, cand: outputs.append(cand),
        )
        assert compared.columns is not None
        strides = self.reference.strides
        figures = task.measure(compared.columns, self.config, strides, population=True, bound=False)
        errors = recorder.errors(self.exact, self.answer, outputs[0])
        names = [figure.name for figure in task.figures if figure.limited_by == EXACTNESS]
        per_stride = figures.metrics.get("per_stride", ())
        figures.metrics.update(exactness_metrics(errors, names, per_stride))
        self.metrics = figures.metrics
        return judge(figures, self.config.compare.tolerances, profile), found
