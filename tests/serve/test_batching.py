"""The thread that runs the pipeline: shared batches, swaps between batches, and nothing lost."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from pillsnap.pipeline.twostage import Result
from pillsnap.serve.batching import Batcher
from pillsnap.serve.refusal import Refusal
from tests.pipeline.test_twostage import halves

IMAGE = halves(4, 4)
WAIT_S = 30


class Gated:
    """A pipeline that runs a batch when it is let, and notes the batches."""

    def __init__(self, name: str, batch_size: int = 4) -> None:
        self.name = name
        self.batch_size = batch_size
        self.batches: list[tuple[int, str]] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def run(self, images: list[Any], mode: str) -> list[Result]:
        self.begun.release()
        assert self.let.acquire(timeout=WAIT_S)
        self.batches.append((len(images), mode))
        if any(image.shape[0] == 1 for image in images):
            raise ValueError("one pixel is too few")
        return [{"by": self.name, "height": image.shape[0]} for image in images]


def start(*names: str, batch_size: int = 4) -> tuple[Batcher, list[Gated], list[int]]:
    pipelines = [Gated(name, batch_size) for name in names]
    sizes: list[int] = []
    return Batcher(pipelines[0], sizes.append), pipelines, sizes  # type: ignore[arg-type]


def test_jobs_that_wait_share_a_batch_of_their_mode() -> None:
    batcher, (pipeline,), sizes = start("a")
    first = batcher.submit([IMAGE], "single")
    assert pipeline.begun.acquire(timeout=WAIT_S)
    jobs = [
        batcher.submit([halves(height, 4)] * count, mode)
        for height, count, mode in (
            (2, 1, "single"),
            (3, 2, "single"),
            (4, 2, "single"),
            (5, 1, "combo"),
            (6, 9, "combo"),
        )
    ]
    pipeline.let.release(20)
    heights = [[result["height"] for result in job.result(WAIT_S)] for job in (first, *jobs)]
    assert heights == [[4], [2], [3, 3], [4, 4], [5], [6] * 9]
    expected = [(1, "single"), (3, "single"), (2, "single"), (1, "combo"), (9, "combo")]
    assert pipeline.batches == expected
    batcher.close()
    assert sizes == [1, 3, 2, 1, 9]


def test_a_job_that_fails_takes_no_other_with_it() -> None:
    batcher, (pipeline,), _ = start("a")
    first = batcher.submit([IMAGE], "single")
    assert pipeline.begun.acquire(timeout=WAIT_S)
    good, bad = batcher.submit([IMAGE], "single"), batcher.submit([halves(1, 4)], "single")
    pipeline.let.release(20)
    assert first.result(WAIT_S) == good.result(WAIT_S) == [{"by": "a", "height": 4}]
    with pytest.raises(ValueError, match="too few"):
        bad.result(WAIT_S)
    assert batcher.submit([IMAGE], "single").result(WAIT_S)
    batcher.close()


def test_a_job_that_is_called_off_stops_nothing() -> None:
    batcher, (pipeline,), _ = start("a")
    first = batcher.submit([IMAGE], "single")
    assert pipeline.begun.acquire(timeout=WAIT_S)
    off = batcher.submit([IMAGE], "single")
    assert off.cancel()
    assert not first.cancel()
    last = batcher.submit([IMAGE], "combo")
    pipeline.let.release(20)
    assert first.result(WAIT_S)
    assert last.result(WAIT_S)
    with pytest.raises(CancelledError):
        off.result(WAIT_S)
    batcher.close()


def test_no_image_outlives_its_answer_or_its_client() -> None:
    batcher, (pipeline,), _ = start("a")
    images = [halves(4, 4) for _ in range(3)]
    held = [weakref.ref(image) for image in images]
    first = batcher.submit([images.pop()], "single")
    assert pipeline.begun.acquire(timeout=WAIT_S)
    off, last = (batcher.submit([images.pop()], "single") for _ in range(2))
    assert off.cancel()
    assert [each() is None for each in held] == [False, True, False]
    pipeline.let.release(20)
    assert first.result(WAIT_S)
    assert last.result(WAIT_S)
    end = time.monotonic() + WAIT_S
    while any(each() is not None for each in held) and time.monotonic() < end:
        time.sleep(0.01)  # the thread may still be on its way to the next
    assert [each() for each in held] == [None] * 3
    batcher.close()


def test_a_swap_waits_for_the_batch_that_has_begun_and_for_no_other() -> None:
    batcher, (old, new), _ = start("old", "new")
    first = batcher.submit([IMAGE], "single")
    assert old.begun.acquire(timeout=WAIT_S)
    waiting = batcher.submit([IMAGE], "combo")
    swap = threading.Thread(target=batcher.swap, args=(new,))
    swap.start()
    time.sleep(0.1)
    assert swap.is_alive()
    old.let.release()
    swap.join(WAIT_S)  # though the new pipeline is not let yet
    assert not swap.is_alive()
    assert first.result(WAIT_S)[0]["by"] == "old"
    new.let.release()
    assert waiting.result(WAIT_S)[0]["by"] == "new"
    batcher.close()


def test_closing_answers_what_was_submitted() -> None:
    batcher, (pipeline,), _ = start("a", batch_size=1)
    jobs = [batcher.submit([IMAGE], "single") for _ in range(5)]
    pipeline.let.release(20)
    batcher.close()
    assert all(job.done() and np.size(job.result()) == 1 for job in jobs)


def test_a_thread_that_has_ended_is_not_waited_for() -> None:
    batcher, _, _ = start("a")
    batcher.require_running()
    batcher.close()
    with pytest.raises(Refusal, match="has ended") as caught:
        batcher.require_running()
    assert caught.value.status == 503
