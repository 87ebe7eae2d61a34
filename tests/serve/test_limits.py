"""What all requests may hold together, and decoders that must be ended."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pillsnap.config.settings import Config, Paths, Serve
from pillsnap.pipeline.images import Pixels
from pillsnap.pipeline.twostage import Result
from pillsnap.serve.budget import Budget, Share
from pillsnap.serve.connection import outcome
from pillsnap.serve.decoding import Decoders
from pillsnap.serve.metrics import Metrics
from pillsnap.serve.prediction import Predictor
from pillsnap.serve.uploads import Upload
from tests.serve.test_predict import chunk, picture, saved


def test_a_budget_is_taken_and_given_back() -> None:
    budget = Budget(10)
    with pytest.raises(ZeroDivisionError), Share(budget) as share:
        assert share.take(7)
        assert not Share(budget).take(4)
        assert share.take(3)
        raise ZeroDivisionError
    other = Share(budget)
    assert other.take(10)
    assert not other.take(1)


def test_who_waits_for_much_is_not_passed_by_who_waits_for_little() -> None:
    async def run() -> list[str]:
        budget, order = Budget(10), []

        async def hold(name: str, amount: int) -> None:
            with Share(budget) as share:
                await share.wait_for(amount)
                order.append(name)
                await asyncio.sleep(0)

        with Share(budget) as share:
            assert share.take(5)
            tasks = [asyncio.create_task(hold("much", 10)), asyncio.create_task(hold("little", 1))]
            off = asyncio.create_task(hold("off", 10))
            for _ in range(5):
                await asyncio.sleep(0)
            off.cancel()
            assert order == []
        await asyncio.gather(*tasks)
        assert Share(budget).take(10)  # and who did not wait to the end has taken nothing
        return order

    assert asyncio.run(run()) == ["much", "little"]


def test_no_more_pixels_are_decoded_than_all_requests_may_hold(tmp_path: Path) -> None:
    """They are held until the answer is there, and the others wait so long."""

    async def run() -> None:
        asked: list[Future[list[Result]]] = []

        def submit(images: Sequence[Pixels], mode: str) -> Future[list[Result]]:
            asked.append(Future())
            return asked[-1]

        stages = SimpleNamespace(stages={"classification": None})
        models: Any = SimpleNamespace(batcher=SimpleNamespace(pipeline=stages, submit=submit))
        config = Config(Paths(tmp_path), serve=Serve(max_held_megapixels=2.0))
        predictor = Predictor(config, models, Metrics())
        photo = Upload("a.png", saved(Image.new("RGB", (1000, 1000))))
        tasks = [asyncio.create_task(predictor._run([photo], "single")) for _ in range(5)]
        for answered in range(4):
            while len(asked) < answered + 2:
                await asyncio.sleep(0.01)
            assert predictor._pixels.free < 1
            asked[answered].set_result([{"code": "K"}])
        asked[4].set_result([{"code": "K"}])
        assert await asyncio.gather(*tasks) == [[{"image": "a.png", "code": "K"}]] * 5
        assert predictor._pixels.free == 2_000_000
        predictor.close()

    asyncio.run(run())


def test_work_that_is_called_off_is_held_until_it_has_ended() -> None:
    async def run() -> None:
        begun: Future[int] = Future()
        begun.set_running_or_notify_cancel()
        waiting: Future[int] = Future()
        tasks = [asyncio.create_task(outcome(work)) for work in (begun, waiting)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        done, _ = await asyncio.wait(tasks, timeout=0.1)
        assert (done, waiting.cancelled()) == ({tasks[1]}, True)
        begun.set_result(1)
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()

    asyncio.run(run())


def laborious() -> bytes:
    """A small PNG that takes seconds: profiles that inflate, one after another."""
    data = saved(picture())
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(900_000)))
    return data[:33] + profile * 8_000 + data[33:]


def test_a_photo_that_takes_too_long_is_ended_and_the_next_is_decoded() -> None:
    async def run() -> None:
        decoders = Decoders(1.0, 10**6)
        late = await decoders.measure(Upload("late.png", laborious()))
        assert isinstance(late, str)
        assert "no answer within 1 s" in late
        good = await decoders.decode(Upload("good.png", saved(picture())))
        np.testing.assert_array_equal(good, np.asarray(picture()))
        decoders.close()

    asyncio.run(run())


def test_a_photo_that_takes_too_much_memory_cannot_be_read() -> None:
    """As it would, were its head not believed: a decoder's memory is bounded by the pixels of
    the largest photo, whatever the file says."""

    async def run() -> None:
        decoders = Decoders(60.0, 10**6)
        large = Upload("large.png", saved(Image.new("L", (20_000, 20_000))))
        assert await decoders.measure(large) == 4 * 10**8
        assert "too much memory" in str(await decoders.decode(large))
        decoders.close()

    asyncio.run(run())


def test_the_largest_photo_of_the_hungriest_formats_is_decoded() -> None:
    async def run() -> None:
        decoders = Decoders(60.0, 12 * 10**6)
        for form, mode in (("WEBP", "RGBA"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("TIFF", "RGB")):
            image = Image.new(mode, (4000, 3000), 200)
            options = {"progressive": True} if form == "JPEG" else {}
            found = await decoders.decode(Upload("a", saved(image, form, **options)))
            assert not isinstance(found, str), (form, found)
            assert found.shape == (3000, 4000, 3)
        decoders.close()

    asyncio.run(run())
