"""What the reference answers, remembered: its outputs, the exact ones, its surest classes.

An answer's last bits depend on the batch that an image was in, so outputs are kept by whole batch.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pillsnap.compare.classification
import pillsnap.compare.loading
import pillsnap.pipeline.softmax
from pillsnap.compare.exactness import Exact
from pillsnap.compare.loading import Load, Prepared
from pillsnap.core.arraycache import ArrayCache
from pillsnap.core.errors import ImageError
from pillsnap.core.hashes import sha256_file, sha256_json
from pillsnap.data.datasets import Sample
from pillsnap.engines.protocol import Batch, Reference
from pillsnap.engines.timing import Stopwatch
from pillsnap.pipeline.images import read_bytes
from pillsnap.pipeline.softmax import softmax


class CachedReference:
    """A reference that is asked once for each batch.

    Args:
        cache: None asks it every time.
        is_output: whether a shape can be that of its answer.
    """

    def __init__(
        self,
        reference: Reference,
        cache: ArrayCache | None,
        is_output: Callable[[tuple[int, ...]], bool],
    ) -> None:
        self.reference = reference
        self._is_output = is_output
        self._cache = cache
        self._watch = Stopwatch(reference.engine)

    def outputs(self, batch: Prepared) -> Batch:
        """The reference's output for a batch [N,3,H,W]: float32 [N,C] or [N,A,7]."""
        return self._remember(
            "output",
            batch.contents,
            lambda: self._watch.run(batch.array),
            lambda found: (
                found.dtype == np.float32
                and len(found) == len(batch.samples)
                and self._is_output(found.shape)
            ),
        )

    def seconds_per_image(self, batch: Batch) -> tuple[float, bool]:
        """Seconds that the reference takes for an image in a batch [N,3,H,W], and whether that is
        remembered from an earlier run on this machine: opening a model to time it costs more than
        the rest of a run whose outputs are known."""
        measured = False

        def measure() -> NDArray[np.float64]:
            nonlocal measured
            measured = True
            self._watch.repeat(batch)
            of_size = [(n, seconds) for n, seconds in self._watch.runs if n == len(batch)]
            return np.array(
                [np.median([seconds / n for n, seconds in of_size or self._watch.runs])]
            )

        where = [socket.gethostname().encode(), str(len(batch)).encode()]
        found = self._remember(
            "speed", where, measure, lambda known: known.shape == (1,) and 0 < known[0] < np.inf
        )
        if self._watch.warm and not measured:
            found = measure()
        return float(found[0]), not measured

    def exact_outputs(self, images: Batch, contents: Sequence[bytes]) -> Exact | None:
        """The reference's outputs [n, ...] for images [n,3,H,W] in float64; None where it cannot be
        run so. One image at a time: each takes twice the memory of float32, and is remembered."""
        compute = self.reference.exact
        if compute is None:
            return None

        def fits(found: NDArray[Any]) -> bool:
            return found.dtype == np.float64 and self._is_output((1, *found.shape))

        rows = []
        for index, content in enumerate(contents):

            def run(index: int = index) -> NDArray[np.float64]:
                output: NDArray[np.float64] = compute(images[index : index + 1])[0]
                return output

            rows.append(self._remember("float64", [content], run, fits))
        return np.stack(rows)

    def top_probabilities(
        self, samples: Sequence[Sample], load: Load, batch_size: int, *, first: int = 0
    ) -> NDArray[np.float64]:
        """The classifier's top-1 probability for each sample; nan for an image that is unreadable.

        Args:
            first: the sample to begin with, rounded down to a batch, and go round from there:
                workers that begin at different places share the work through the cache.
        """
        found = np.full(len(samples), np.nan)
        starts = list(range(0, len(samples), batch_size))
        turn = first // batch_size
        for start in starts[turn:] + starts[:turn]:
            batch = samples[start : start + batch_size]

            def score(batch: Sequence[Sample] = batch) -> NDArray[np.float64]:
                scores = np.full(len(batch), np.nan)
                for prepared in load(batch, self.reference.transform, batch_size):
                    if prepared.samples:
                        ids = {sample.id for sample in prepared.samples}
                        readable = [sample.id in ids for sample in batch]
                        output = self.reference.engine.run(prepared.array)
                        scores[readable] = softmax(output).max(axis=1)
                return scores

            def fits(known: NDArray[Any], count: int = len(batch)) -> bool:
                return known.shape == (count,)

            contents = [_content(sample) for sample in batch]
            what = ["top-1", _code()]
            found[start : start + batch_size] = self._remember(what, contents, score, fits)
        return found

    def _remember(
        self,
        what: object,
        contents: Sequence[bytes],
        compute: Callable[[], NDArray[Any]],
        fits: Callable[[NDArray[Any]], bool],
    ) -> NDArray[Any]:
        if self._cache is None or self.reference.key is None:
            return compute()
        images = [content.hex() for content in contents]
        key = sha256_json([what, self.reference.key, images])
        return self._cache.get_or_compute(key, compute, fits)


@cache
def _code() -> str:
    """SHA-256 of what makes figures of the reference's outputs."""
    modules: tuple[Any, ...] = (
        pillsnap.compare.classification,
        pillsnap.compare.loading,
        pillsnap.pipeline.softmax,
    )
    files = [__file__, *(module.__file__ for module in modules)]
    return sha256_json([sha256_file(Path(file)) for file in files])


def _content(sample: Sample) -> bytes:
    """SHA-256 of the image's file; of nothing where it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(sample.path)).digest()
    except ImageError:
        return b""
