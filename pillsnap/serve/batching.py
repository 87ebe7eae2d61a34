"""One thread that runs the pipeline: requests that wait share a batch, and models are swapped
between two batches."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from pillsnap.pipeline.preprocess import Pixels
from pillsnap.pipeline.twostage import Pipeline, Result
from pillsnap.serve.refusal import Refusal


@dataclass
class Job:
    """What one request wants; `answer` is one result per image."""

    images: Sequence[Pixels]
    mode: str
    answer: Future[list[Result]] = field(default_factory=Future)

    def drop_images(self) -> None:
        """They are large; one that is called off may stand in the queue for long, and the thread
        keeps its last batch until the next."""
        self.images = ()


class Batcher:
    """Runs jobs on the current pipeline, in the order they came.

    Args:
        pipeline: what it starts with, until swap; its batch_size bounds the images of a batch.
        observe: called with the number of images of every batch that ran.
    """

    def __init__(self, pipeline: Pipeline, observe: Callable[[int], None]) -> None:
        self.pipeline = pipeline
        self._observe = observe
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._next: Job | None = None
        self._turn = threading.Condition()
        self._in_use: Pipeline | None = None
        self._thread = threading.Thread(target=self._work, name="pipeline", daemon=True)
        self._thread.start()
        self._pid = os.getpid()

    def require_running(self) -> None:
        """Refuse, with 503, what nobody would ever answer: the thread has ended, or is one of the
        process that forked this one."""
        if os.getpid() != self._pid:
            raise Refusal(
                503, "this process was forked after the models were loaded, whose threads it lacks"
            )
        if not self._thread.is_alive():
            raise Refusal(503, "the thread that runs the models has ended: restart the service")

    def submit(self, images: Sequence[Pixels], mode: str) -> Future[list[Result]]:
        """One result per image, when their turn has come; errors are Pipeline.run's."""
        job = Job(images, mode)
        job.answer.add_done_callback(lambda _: job.drop_images())
        self._jobs.put(job)
        return job.answer

    def swap(self, pipeline: Pipeline) -> None:
        """Run every further batch on another pipeline; returns when no batch uses the old one."""
        with self._turn:
            old, self.pipeline = self.pipeline, pipeline
            self._turn.wait_for(lambda: self._in_use is not old)

    def close(self, seconds: float | None = None) -> None:
        """Answer what was submitted, then end the thread; one that works for longer than `seconds`
        ends with the process."""
        self._jobs.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (job := self._next or self._jobs.get()) is not None:
            self._next = None
            jobs = self._gather(job)
            with self._turn:
                self._in_use = self.pipeline
            # From here on nobody can call a job off; one that was needs no answer.
            wanted = [each for each in jobs if each.answer.set_running_or_notify_cancel()]
            if wanted:
                self._run(wanted, self._in_use)
            with self._turn:
                self._in_use = None
                self._turn.notify_all()

    def _gather(self, first: Job) -> list[Job]:
        """The jobs that wait and fit into a batch with the first."""
        jobs, room = [first], self.pipeline.batch_size - len(first.images)
        while room > 0:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # for the next turn
                break
            if job.mode != first.mode or len(job.images) > room:
                self._next = job
                break
            jobs.append(job)
            room -= len(job.images)
        return jobs

    def _run(self, jobs: list[Job], pipeline: Pipeline) -> None:
        images = [image for job in jobs for image in job.images]
        try:
            results = iter(pipeline.run(images, jobs[0].mode))
        except Exception as error:  # whatever it is, somebody waits for an answer
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
                return
            for job in jobs:  # one request's trouble is not another's
                self._run([job], pipeline)
            return
        self._observe(len(images))
        for job in jobs:
            job.answer.set_result([next(results) for _ in job.images])
