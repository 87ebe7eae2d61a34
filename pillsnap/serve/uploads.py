"""Bodies of requests -> images, within limits, judged by content and never by name."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from pillsnap.config import Serve
from pillsnap.errors import ImageError
from pillsnap.images import Pixels, decode_image, image_size
from pillsnap.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

MODES = ("single", "combo")
_MIB = 2**20
_JSON_BYTES = 64 * 1024


@dataclass(frozen=True)
class Upload:
    """One image of a request: its name, as the client gave it, and its bytes."""

    name: str
    data: bytes


async def read_images(request: Request, limits: Serve) -> tuple[list[Upload], str | None]:
    """The images of a request, and the mode that it asks for, if any.

    Either a multipart form with files and a field `mode`, or one image as the whole body. The
    mode may also stand in the query.

    Raises:
        Refusal: 413 for a body or a number of images above the limits, 415 for another kind of
            body, 422 for one without images, a broken form or an unknown mode.
    """
    from starlette.formparsers import MultiPartException, MultiPartParser

    body = _limited(request, int(limits.max_upload_mib * _MIB))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    modes = request.query_params.getlist("mode")
    if kind == "multipart/form-data":
        parser = MultiPartParser(request.headers, body, max_files=limits.max_images, max_fields=8)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            too_many = error.message.startswith("Too many files")
            message = f"the form cannot be read: {error.message}"
            raise Refusal(413 if too_many else 422, message) from None
        except (KeyError, UnicodeError, ValueError):
            raise Refusal(422, "the form cannot be read") from None
        items = form.multi_items()
        images = [
            Upload(_base_name(part.filename), await part.read())
            for _, part in items
            if not isinstance(part, str)
        ]
        await form.close()
        fields = [(name, part) for name, part in items if isinstance(part, str)]
        if any(name != "mode" for name, _ in fields):
            raise Refusal(422, "the form's fields are files and mode")
        modes += [part for _, part in fields]
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images = [Upload("", b"".join([part async for part in body]))]
    else:
        raise Refusal(415, "send a multipart form with files, or one image as the body (image/*)")
    if not images:
        raise Refusal(422, "there is no image in the request")
    if len(set(modes)) > 1 or any(mode not in MODES for mode in modes):
        raise Refusal(422, f"mode must be one of {', '.join(MODES)}")
    return images, modes[0] if modes else None


async def read_json_object(request: Request) -> dict[str, Any]:
    """The JSON object that is a request's body.

    Raises:
        Refusal: 413 for a large body, 422 for one that is no JSON object.
    """
    data = b"".join([part async for part in _limited(request, _JSON_BYTES)])
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Refusal(422, "the body must be a JSON object")
    return content


def decode_images(uploads: Sequence[Upload], limits: Serve) -> list[Pixels | str]:
    """Each image, or why it cannot be read.

    Raises:
        Refusal: 413 where their pixels are more than the limit, all images together. Sizes are
            looked at before anything is decoded.
    """
    pixels = sum(image_size(upload.data) for upload in uploads)
    if pixels > limits.max_megapixels * 1e6:
        raise Refusal(
            413, f"{pixels / 1e6:.1f} megapixels in all, more than {limits.max_megapixels:g}"
        )
    return [_decode(upload) for upload in uploads]


def _decode(upload: Upload) -> Pixels | str:
    try:
        return decode_image(upload.data, PurePosixPath(upload.name))
    except ImageError as error:
        return error.what


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body in parts; stops reading where it is too large."""
    too_large = Refusal(413, f"the body is larger than {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        yield part


def _base_name(name: str | None) -> str:
    return PureWindowsPath(name or "").name[:255]
