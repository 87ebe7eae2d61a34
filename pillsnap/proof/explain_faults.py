"""Whether the diagnosis names the cause of a fault of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pillsnap.compare.tasks import read_samples
from pillsnap.config.cells import CLASSIFICATION, DETECTION, Cell
from pillsnap.diagnose.causes import find_causes
from pillsnap.diagnose.distance import measure_gap, over_noise
from pillsnap.diagnose.fresh_exports import FreshExports
from pillsnap.diagnose.subject import Subject, make_subject
from pillsnap.engines import Batch
from pillsnap.export import read_onnx
from pillsnap.pipeline.images import read_image
from pillsnap.pipeline.preprocess import Pixels, Tensor, preprocess
from pillsnap.proof.catalogue import FAULTS
from pillsnap.proof.fault import Bench, Fault

# The worst of so many samples of a stage are looked at, as of a cell that breached.
WORST = 3
LOOKED_AT = {CLASSIFICATION: 96, DETECTION: 4}

# The kind of cause that the diagnosis has to state, by the fault's name or else its group. Faults
# of the other groups lie behind the network, or never come to figures.
_OF_GROUP = {"preprocessing": "preprocessing", "weights": "weights", "export": "conversion"}
_OF_NAME = {
    "half_weights": "weights",
    "bfloat_weights": "weights",
    "half_arithmetic": "precision",
    "int8_dynamic": "precision",
    "int8_without_calibration": "precision",
    "half_overflow": "conversion",
    "saturated_activations": "conversion",
}


def expected_kind(fault: Fault) -> str | None:
    """The kind of cause that is right for a fault; None where no intervention undoes it."""
    if fault.refusal is not None or fault.blind is not None:
        return None
    return _OF_NAME.get(fault.name, _OF_GROUP.get(fault.group))


EXPLAINABLE = tuple(fault for fault in FAULTS if expected_kind(fault) is not None)


def explain(
    fault: Fault,
    bench: Bench,
    exports: FreshExports,
    reference: Callable[[Batch], Batch],
    threads: int,
) -> dict[str, Any]:
    """What the diagnosis states of a fault: fault, expected, stated (a kind or null), right."""
    injection = fault.inject(bench)
    everything = read_samples(injection.config or bench.config, bench.stage)
    samples = everything[:: max(1, len(everything) // LOOKED_AT[bench.stage])]
    images = [read_image(sample.path) for sample in samples]
    model = injection.file or bench.healthy
    named = [(sample.id, image) for sample, image in zip(samples, images, strict=True)]
    subject = subject_of(bench, model, named, reference, threads)
    see = injection.see
    if see is not None:
        of_image = {id(image): sample for image, sample in zip(images, samples, strict=True)}

        def prepare(image: Pixels) -> Tensor:
            right = preprocess(image, bench.transform)[None]
            return np.asarray(see([of_image[id(image)]], right)[0])

        subject = replace(subject, candidate=replace(subject.candidate, prepare=prepare))
    causes = find_causes(_worst(subject), read_onnx(model), exports)
    stated = None if causes.stated is None else causes.stated.kind
    wanted = expected_kind(fault)
    return {
        "fault": fault.name,
        "stage": fault.stage,
        "expected": wanted,
        "stated": stated,
        "right": stated == wanted,
        "in_words": causes.in_words(),
    }


def subject_of(
    bench: Bench,
    model: Path,
    samples: Sequence[tuple[str, Pixels]],
    reference: Callable[[Batch], Batch],
    threads: int,
) -> Subject:
    """A file held against the trained network of a bench's stage."""
    return make_subject(
        bench.config,
        Cell(bench.stage, "onnx", "cpu", "fp32", "smoke"),
        model,
        samples,
        transform=bench.transform,
        reference=reference,
        threads=threads,
    )


def _worst(subject: Subject) -> Subject:
    """The subject with its samples of the largest difference alone."""

    def apart(image: Pixels) -> float:
        wanted, found = (side.answer([image]) for side in (subject.reference, subject.candidate))
        return over_noise(measure_gap(wanted, found))

    gaps = np.array([apart(image) for image in subject.images])
    order = np.argsort(-gaps, kind="stable")[:WORST]
    return replace(
        subject,
        ids=tuple(subject.ids[i] for i in order),
        images=tuple(subject.images[i] for i in order),
    )
