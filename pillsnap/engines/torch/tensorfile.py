"""safetensors: the format that holds tensors and texts alone, and so can run nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pillsnap.core.errors import CheckpointError, first_line
from pillsnap.core.printable import printable

SUFFIX = ".safetensors"

# A tensor's entry takes about 120 bytes: this is 80,000 of them. The format's own limit is 100 MB.
_MOST_HEADER = 10 * 2**20
# The eight bytes before the header are its length; the first eight of a text are far above this.
_MOST_CLAIMED = 2**48

# Metadata are texts; a trainer's arguments can only stand there as JSON.
_MAPPINGS = ("args", "train_args", "train_metrics", "names")


def is_safetensors(head: bytes) -> bool:
    """Whether a file's first bytes are those of a safetensors file, damaged or not."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _MOST_CLAIMED


def opens_as_safetensors(path: Path) -> bool:
    """`is_safetensors` of a file that can be read."""
    with path.open("rb") as file:
        return is_safetensors(file.read(9))


def read_safetensors(path: Path) -> dict[str, Any]:
    """What a safetensors file holds, as a checkpoint: under "" tensors on the CPU by name, and
    beside it its metadata, of which those that trainers write as mappings are read as JSON.

    Tensors lie side by side in the file: they take no more memory than it has bytes.

    Raises:
        CheckpointError: the header is too long, is not one, or its places are not the file's.
    """
    with _opened(path) as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata() or {}
    return {**{key: _value(key, text) for key, text in metadata.items()}, "": tensors}


def safetensors_names(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file; errors are read_safetensors's."""
    with _opened(path) as opened:
        return [*opened.keys()]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        claimed = int.from_bytes(file.read(8), "little")
    if claimed > _MOST_HEADER:
        raise _damaged(path, f"a header of {claimed:,} bytes; at most {_MOST_HEADER:,} are read")
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            yield opened
    except Exception as error:  # its own type, and torch's for dtypes that it lacks
        raise _damaged(path, first_line(error)) from error


def _value(key: str, text: str) -> Any:
    if key not in _MAPPINGS:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _damaged(path: Path, got: str) -> CheckpointError:
    return CheckpointError(
        "the safetensors file is damaged",
        where=path,
        got=printable(got, 200),
        hint="copy or save the file again; it may have been cut off while it was written",
    )
