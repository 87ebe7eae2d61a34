"""What a reference is remembered by, and what is said of a speed that was not measured now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pillsnap.compare import reference
from pillsnap.compare.loading import Load, Prepared
from pillsnap.compare.reference import CachedReference
from pillsnap.compare.tasks import CLASSIFICATION_TASK
from pillsnap.core.arraycache import ArrayCache
from pillsnap.data.datasets import Sample
from pillsnap.engines import Batch, Reference
from pillsnap.pipeline.transforms import ClassifyTransform

SAMPLES = [Sample("a", Path("a.png"), 0), Sample("b", Path("b.png"), 1)]
BATCH = np.zeros((2, 3, 4, 4), np.float32)
PREPARED = Prepared(SAMPLES, BATCH, [b"a" * 32, b"b" * 32])
LOGITS = np.array([[1, 2, 3], [3, 1, 2]], np.float32)


class Counted:
    """An engine that counts how often it is asked."""

    def __init__(self) -> None:
        self.info: dict[str, object] = {}
        self.calls = 0

    def run(self, batch: Batch) -> Batch:
        self.calls += 1
        return LOGITS


@pytest.fixture
def reopen(tmp_path: Path) -> Callable[[], tuple[CachedReference, Counted, Counted]]:
    """The reference as a new run opens it, its engine and the exact one; all over one cache."""

    def opened() -> tuple[CachedReference, Counted, Counted]:
        engine, other = Counted(), Counted()
        exact = lambda batch: other.run(batch)[: len(batch)].astype(np.float64)  # noqa: E731
        transform = ClassifyTransform(4, (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0)
        reference = Reference(engine, transform, key="model", exact=exact)
        cache = ArrayCache(tmp_path / "cache", 1 << 20)
        return CachedReference(reference, cache, CLASSIFICATION_TASK.is_output), engine, other

    return opened


Reopen = Callable[[], tuple[CachedReference, Counted, Counted]]


def top_calls(reopen: Reopen) -> int:
    """How often the engine is asked for the surest classes."""
    opened, engine, _ = reopen()
    load: Load = lambda *_: iter([PREPARED])  # noqa: E731
    opened.top_probabilities(SAMPLES, load, 2)
    return engine.calls


def test_exact_outputs_are_computed_once_an_image(reopen: Reopen) -> None:
    contents = PREPARED.contents
    opened, _, other = reopen()
    found = opened.exact_outputs(BATCH, contents)
    assert found is not None
    assert (found.shape, found.dtype) == ((2, 3), np.float64)
    assert other.calls == 2
    again, _, other = reopen()
    # In whatever company an image is.
    same = again.exact_outputs(BATCH[:1], contents[1:])
    assert same is not None
    np.testing.assert_array_equal(same, found[1:])
    assert other.calls == 0
    assert (
        CachedReference(
            Reference(Counted(), opened.reference.transform), None, CLASSIFICATION_TASK.is_output
        ).exact_outputs(BATCH, contents)
        is None
    )


@pytest.mark.parametrize(
    "file", ["compare/classification.py", "compare/reference.py", "pipeline/softmax.py"]
)
def test_what_is_remembered_depends_on_the_code_that_recorded_it(
    reopen: Reopen, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    reference._code.cache_clear()
    assert [top_calls(reopen), top_calls(reopen)] == [1, 0]
    hash_of = reference.sha256_file

    def changed(path: Path) -> str:
        return "0" * 64 if str(path).endswith(f"pillsnap/{file}") else hash_of(path)

    reference._code.cache_clear()
    monkeypatch.setattr(reference, "sha256_file", changed)
    assert top_calls(reopen) == 1
    reference._code.cache_clear()


def test_a_speed_of_an_earlier_run_says_so(reopen: Reopen) -> None:
    first, _, _ = reopen()
    first.outputs(PREPARED)
    seconds, from_earlier = first.seconds_per_image(BATCH)
    assert not from_earlier
    assert not first.seconds_per_image(BATCH)[1]  # of this run's next cell

    warm, engine, _ = reopen()
    warm.outputs(PREPARED)
    assert warm.seconds_per_image(BATCH) == (seconds, True)
    assert engine.calls == 0

    # Where torch answers anyhow, both sides are timed in the same run.
    other, engine, _ = reopen()
    other.outputs(Prepared(SAMPLES, BATCH, [b"c" * 32, b"d" * 32]))
    assert not other.seconds_per_image(BATCH)[1]
