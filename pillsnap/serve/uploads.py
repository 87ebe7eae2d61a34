"""Bodies of requests -> uploaded files, within limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from pillsnap.config.settings import Serve
from pillsnap.serve.budget import Share
from pillsnap.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request

MODES = ("single", "combo")
MIB = 2**20
_JSON_BYTES = 64 * 1024


@dataclass(frozen=True)
class Upload:
    """One image of a request: its name, as the client gave it, and its bytes."""

    name: str
    data: bytes


async def read_images(
    request: Request, limits: Serve, held: Share
) -> tuple[list[Upload], str | None]:
    """The images of a request, and the mode that it asks for, if any.

    Either a multipart form with files and a field `mode`, or one image as the whole body. The
    mode may also stand in the query.

    Args:
        held: what bodies take of the bytes that all requests may hold.

    Raises:
        Refusal: 408 for a body that takes too long, 413 for one or a number of images above the
            limits, 415 for another kind of body, 422 for one without images, a form that is broken
            or cut off or an unknown mode, 503 where the bodies of all requests are too large.
        ClientDisconnect: the client has hung up.
    """
    body = _limited(request, int(limits.max_upload_mib * MIB), limits.body_timeout_s, held)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    modes = request.query_params.getlist("mode")
    if kind == "multipart/form-data":
        form = await _parse(request, body, limits)
        items = form.multi_items()
        images = [
            Upload(PureWindowsPath(part.filename or "").name[:255], await part.read())
            for _, part in items
            if not isinstance(part, str)
        ]
        await form.close()
        fields = [(name, part) for name, part in items if isinstance(part, str)]
        if any(name != "mode" for name, _ in fields):
            raise Refusal(422, "the form's fields are files and mode")
        modes += [part for _, part in fields]
    elif kind.startswith("image/") or kind == "application/octet-stream":
        data = bytearray()  # one block, which goes back to the system; glibc keeps a list of parts
        async for part in body:
            data += part
        images = [Upload("", bytes(data))]
    else:
        raise Refusal(415, "send a multipart form with files, or one image as the body (image/*)")
    if not images:
        raise Refusal(422, "there is no image in the request")
    if len(set(modes)) > 1 or any(mode not in MODES for mode in modes):
        raise Refusal(422, f"mode must be one of {', '.join(MODES)}")
    return images, modes[0] if modes else None


async def _parse(request: Request, body: AsyncGenerator[bytes, None], limits: Serve) -> FormData:
    """A multipart form up to its end; errors are read_images'."""
    from starlette.formparsers import MultiPartException, MultiPartParser

    class Parser(MultiPartParser):
        ended = False

        def on_end(self) -> None:
            self.ended = True

    async def whole() -> AsyncGenerator[bytes, None]:
        async for part in body:
            yield part
        if not parser.ended:
            raise MultiPartException("it is cut off before its end")

    parser = Parser(request.headers, whole(), max_files=limits.max_images, max_fields=8)
    try:
        return await parser.parse()
    except MultiPartException as error:
        too_many = error.message.startswith("Too many files")
        message = f"the form cannot be read: {error.message}"
        raise Refusal(413 if too_many else 422, message) from None
    except (KeyError, UnicodeError, ValueError):
        raise Refusal(422, "the form cannot be read") from None


async def read_json_object(request: Request, limits: Serve) -> dict[str, Any]:
    """The JSON object that is a request's body; errors are read_images', and 422 for another."""
    body = _limited(request, _JSON_BYTES, limits.body_timeout_s)
    data = b"".join([part async for part in body])
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Refusal(422, "the body must be a JSON object")
    return content


async def _limited(
    request: Request, limit: int, seconds: float, held: Share | None = None
) -> AsyncGenerator[bytes, None]:
    """The body in parts; stops reading where it is too large, takes too long, or is too much."""
    too_large = Refusal(413, f"the body is larger than {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    size, parts = 0, request.stream()
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(end):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal(408, f"the body was not there within {seconds:g} s") from None
        size += len(part)
        if size > limit:
            raise too_large
        if held is not None and not held.take(len(part)):
            raise Refusal(503, "the bodies of all requests are too large: try again later")
        yield part
