"""What the axes of a candidate are worth that its file says are free: it is run at other sizes.

An operator inside may hold the size of the export, and then the file runs, or answers rightly, at
that size alone: the gate's batches would fit, the photos that come later would not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pillsnap.compare import Recorder
from pillsnap.compare.loading import Prepared
from pillsnap.config.settings import Serve
from pillsnap.core.errors import EngineError, WrongCandidate, first_line
from pillsnap.engines.protocol import Batch, RunsAtOtherSizes
from pillsnap.engines.timing import Stopwatch
from pillsnap.export.forms import FORMS, same_shape

Declared = tuple[int | str | None, ...]


def try_free_axes(
    candidate: Stopwatch,
    stage: str,
    batch: Prepared,
    ref: Batch,
    cand: Batch,
    recorder: Recorder,
    strides: tuple[int, ...],
) -> dict[str, Any] | None:
    """Run a candidate on images of a batch: one alone, some in batches of two and of another prime
    number, of a file of another exporter also more than the cell and infer run at once, and where
    height and width are free at another size.

    Args:
        ref, cand: what both sides answered in the batch.
        strides: of the reference; () where it has none.

    Returns:
        `batch_sizes` and `input_sizes` [H,W] that it ran at, the cell's own first; of the batch
        axis `images`, how many answered again, and `drift`, their largest difference from what
        they were answered in the batch, by figure, None where those were not finite. None where
        all is fixed, and of engines that are not to be tried.

    Raises:
        WrongCandidate: it fails at a size, or its answer is not finite there or of another shape.
    """
    engine = candidate.engine
    declared = engine.input_shape if isinstance(engine, RunsAtOtherSizes) else None
    if declared is None:
        return None
    size = (batch.array.shape[2], batch.array.shape[3])
    sizes: tuple[int, ...] = ()
    if _is_free(declared[0]):
        # Others' files may answer no more images than they were exported for; the service and infer
        # run so many by default.
        foreign = candidate.info.get("layout") is not None
        more = (max(len(cand), Serve.batch_size) + 1,) if foreign else ()
        sizes = _batch_sizes(len(cand)) + more
    other = _other_size(declared, size, max(strides, default=None))
    if not sizes and other == size:
        return None
    finite = bool(np.isfinite(cand).all())
    drift = dict.fromkeys(recorder.drift, 0.0)
    images: set[int] = set()
    for count in sizes:
        # Not those that were alone, as long as there are others.
        rows = (len(images) + np.arange(count)) % len(cand)
        images.update(rows.tolist())
        shape = (count, *cand.shape[1:])
        output = _run(candidate, batch.array[rows], shape, finite, "the batch axis N")
        for name, value in _drift(recorder, batch, rows, ref, cand, output).items():
            drift[name] = max(drift[name], value)
    if other != size:
        few = batch.array[: 1 if _is_free(declared[0]) else len(cand)]
        grown = ((0, 0), (0, 0), (0, other[0] - size[0]), (0, other[1] - size[1]))
        axes = [name for name, of in zip("HW", declared[2:], strict=True) if _is_free(of)]
        image = np.pad(few, grown, mode="wrap")
        own, form = (
            FORMS[stage].shape(each.shape, cand.shape[-1], strides) for each in (batch.array, image)
        )
        # A file that leaves boxes out may have any number of them.
        wanted = form if own == cand.shape else (len(image), None, *cand.shape[2:])
        _run(candidate, image, wanted, finite, " and ".join(axes))
    return {
        "batch_sizes": [len(cand), *sizes],
        "input_sizes": [list(each) for each in dict.fromkeys((size, other))],
        "images": len(images),
        "drift": drift if images and finite else None,
    }


def _is_free(axis: int | str | None) -> bool:
    return not isinstance(axis, int)


def _batch_sizes(count: int) -> tuple[int, ...]:
    """One, two, and a prime that does not divide what ran: what was made for that does not run
    then."""
    return tuple(each for each in (1, 2, 5 if count % 3 == 0 else 3) if each != count)


def _other_size(declared: Declared, size: tuple[int, int], step: int | None) -> tuple[int, int]:
    """Another height and width, of other sides where they need not be equal.

    Args:
        step: what both must be a multiple of; None: nobody knows, so multiples of what they are.
    """
    height, width = size
    square = declared[2] is not None and declared[2] == declared[3]
    return (
        height + (step or height) if _is_free(declared[2]) else height,
        width + (1 if square else 2) * (step or width) if _is_free(declared[3]) else width,
    )


def _run(
    candidate: Stopwatch, batch: Batch, shape: tuple[int | None, ...], finite: bool, axes: str
) -> Batch:
    """An output of that shape, where None is any number, and finite where it was so in the cell; it
    is not timed."""
    try:
        output = candidate.engine.run(batch)
    except EngineError as error:
        raise _refusal(candidate, batch, axes, first_line(error.__cause__ or error, 600)) from error
    if not same_shape(output.shape, shape):
        got = f"an output of {list(output.shape)} in place of {list(shape)}"
        raise _refusal(candidate, batch, axes, got)
    if finite and not np.isfinite(output).all():
        raise _refusal(candidate, batch, axes, "an output that is not finite")
    return output


def _refusal(candidate: Stopwatch, batch: Batch, axes: str, got: str) -> WrongCandidate:
    count, _, height, width = batch.shape
    images = "1 image" if count == 1 else f"{count} images"
    return WrongCandidate(
        f"the candidate does not run with {images} of {height} x {width}, though its file says "
        f"that {axes} may be of any size",
        where=candidate.info.get("path"),
        got=f"{list(batch.shape)}: {got}",
        expected="an answer, as at the size of the cell",
        hint="an operator inside (often a Reshape) holds the size of the export: take it from the "
        "input's shape there, or export the axis as fixed",
    )


def _drift(
    recorder: Recorder,
    batch: Prepared,
    rows: NDArray[np.int64],
    ref: Batch,
    cand: Batch,
    output: Batch,
) -> dict[str, float]:
    """How far an output is from what the same images were answered in the batch."""
    before = recorder.as_reference(cand, ref)[rows]
    columns = recorder.columns(
        [batch.samples[row] for row in rows],
        [batch.geometries[row] for row in rows] if batch.geometries else [],
        before,
        output,
    )
    return {name: float(columns[of].max()) for name, of in recorder.drift.items()}
