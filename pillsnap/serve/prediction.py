"""/predict: from a request to its results, within what all requests together may hold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pillsnap.config.settings import Config
from pillsnap.pipeline.twostage import STAGES_OF, Result
from pillsnap.serve.budget import Budget, Share
from pillsnap.serve.connection import outcome, while_connected
from pillsnap.serve.decoding import Decoders
from pillsnap.serve.loading import ModelManager
from pillsnap.serve.metrics import Metrics
from pillsnap.serve.refusal import Refusal
from pillsnap.serve.uploads import MIB, Upload, read_images

if TYPE_CHECKING:
    from starlette.requests import Request


class Predictor:
    """Answers /predict; `waiting` requests have sent their bodies and are not answered yet."""

    def __init__(self, config: Config, models: ModelManager, metrics: Metrics) -> None:
        limits = config.serve
        self.waiting = 0
        self._mode = config.pipeline.mode
        self._limits = limits
        self._models = models
        self._metrics = metrics
        self._decoders = Decoders(limits.decode_timeout_s, int(limits.max_megapixels * 1e6))
        self._bytes = Budget(int(limits.max_held_mib * MIB))
        self._pixels = Budget(int(limits.max_held_megapixels * 1e6))

    def close(self) -> None:
        self._decoders.close()

    async def answer(self, request: Request) -> tuple[int, Result]:
        """Status, and one result per image, in order; 422 where all of them are errors.

        Raises:
            Refusal: 413 for too many pixels, 422 where the mode's models are not loaded, 503 where
                too many requests wait; else read_images'.
            ClientDisconnect: the client has hung up; what was left to do is not done.
        """
        started = time.monotonic()
        self._require_room()
        with Share(self._bytes) as held:
            uploads, mode = await read_images(request, self._limits, held)
            self._require_room()
            self.waiting += 1
            try:
                results = await while_connected(request, self._run(uploads, mode or self._mode))
            finally:
                self.waiting -= 1
        errors = [result for result in results if "error" in result]
        unanswered = sum("models" in error for error in errors)
        self._metrics.count("images", len(results) - len(errors), outcome="answered")
        self._metrics.count("images", len(errors) - unanswered, outcome="unreadable")
        if unanswered:  # a fault of a model, which most never have
            self._metrics.count("images", unanswered, outcome="unanswered")
        self._metrics.observe_predict(time.monotonic() - started)
        content: Result = {"results": results, "unreadable": len(errors)}
        if len(errors) == len(results):
            none = "none of the images can be " + ("answered" if unanswered else "read")
            return 422, {"error": errors[0]["error"] if len(errors) == 1 else none, **content}
        return 200, content

    async def _run(self, uploads: list[Upload], mode: str) -> list[Result]:
        loaded = self._models.batcher.pipeline.stages
        missing = [stage for stage in STAGES_OF[mode] if stage not in loaded]
        if missing:
            raise Refusal(422, f"mode {mode} needs a {missing[0]} model, and none is loaded")
        sizes = [await self._decoders.measure(upload) for upload in uploads]
        pixels = self._require_pixels([size for size in sizes if not isinstance(size, str)])
        with Share(self._pixels) as held:
            await held.wait_for(pixels)
            images = [
                size if isinstance(size, str) else await self._decoders.decode(upload)
                for upload, size in zip(uploads, sizes, strict=True)
            ]
            readable = [image for image in images if not isinstance(image, str)]
            submit = self._models.batcher.submit
            found = await outcome(submit(readable, mode)) if readable else []
        answers = iter(found)
        results = [{"error": each} if isinstance(each, str) else next(answers) for each in images]
        return [
            {"image": upload.name, **result}
            for upload, result in zip(uploads, results, strict=True)
        ]

    def _require_room(self) -> None:
        self._models.batcher.require_running()
        if self.waiting >= self._limits.max_waiting:
            raise Refusal(503, "too many requests wait already: try again later")

    def _require_pixels(self, sizes: list[int]) -> int:
        """Pixels of a request's photos; refuses what is over the limits before it is decoded."""
        limits = self._limits
        for many, most, what in (
            (max(sizes, default=0), limits.max_megapixels, "in a photo"),
            (sum(sizes), limits.max_held_megapixels, "in all"),
        ):
            if many > most * 1e6:
                raise Refusal(413, f"{many / 1e6:.1f} megapixels {what}, more than {most:g}")
        return sum(sizes)
