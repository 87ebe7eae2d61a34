"""Photos decoded in processes that can be ended: what a client sends may hang a decoder, crash it,
or take all memory."""

from __future__ import annotations

import queue
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from pillsnap.core.cpus import usable_cpus
from pillsnap.core.errors import ImageError
from pillsnap.core.isolated import IsolatedError, Standby
from pillsnap.pipeline.images import decode_image, image_size
from pillsnap.pipeline.preprocess import Pixels
from pillsnap.serve.connection import outcome
from pillsnap.serve.refusal import public_message

if TYPE_CHECKING:  # a decoder's process loads this file, and needs little of it
    from pillsnap.serve.uploads import Upload

T = TypeVar("T")

# What a decoder may take beyond the libraries: a file and its parts, and for each pixel what the
# hungriest format does, which is WebP.
_BASE_BYTES = 256 * 2**20
_PIXEL_BYTES = 24


class Decoders:
    """Decodes photos, as many at a time as there are cores; the others wait.

    Args:
        seconds: most that one photo may take; its process is ended then.
        most_pixels: of one photo; bounds the memory of a process.
    """

    def __init__(self, seconds: float, most_pixels: int) -> None:
        self._seconds = seconds
        self._bytes = _BASE_BYTES + _PIXEL_BYTES * most_pixels
        cores = usable_cpus()
        self._threads = ThreadPoolExecutor(cores, thread_name_prefix="decode")
        # The last one used is the next: no more processes start than work at a time.
        self._idle: queue.LifoQueue[Standby] = queue.LifoQueue()
        for _ in range(cores):
            self._idle.put(Standby())

    async def measure(self, upload: Upload) -> int | str:
        """Pixels of a photo by its head, 0 where it has none; or why it cannot be read."""
        return await self._call(_measure, upload.data, self._bytes)

    async def decode(self, upload: Upload) -> Pixels | str:
        """A photo, uint8 [H, W, 3], RGB; or why it cannot be read."""
        return await self._call(_decode, upload.data, upload.name, self._bytes)

    def close(self) -> None:
        """End all processes that wait; those that decode end by their own limit, or with this
        one."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()

    async def _call(self, function: Callable[..., T], *args: Any) -> T | str:
        def call() -> T | str:
            standby = self._idle.get()
            try:
                return standby.call(self._seconds, function, *args)
            except IsolatedError as error:
                return f"this image cannot be read: decoding failed: {public_message(error)}"
            except ImageError as error:
                return error.what
            finally:
                self._idle.put(standby)

        return await outcome(self._threads.submit(call))


def _measure(data: bytes, most_bytes: int) -> int:
    _bound(most_bytes)
    return image_size(data)


def _decode(data: bytes, name: str, most_bytes: int) -> Pixels:
    _bound(most_bytes)
    return decode_image(data, PurePosixPath(name))


@cache
def _bound(most_bytes: int) -> None:
    """Bound this process's memory to so much more than it has now. Pillow's own limit of pixels,
    which says nothing of their number, is off: the service has its own."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + most_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    Image.MAX_IMAGE_PIXELS = None
