"""What an .onnx file may not ask of the machine that loads it, checked before any runtime."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import EngineError
from pillsnap.core.placeholders import read_placeholder

if TYPE_CHECKING:
    import onnx

# A protobuf holds no more, so a larger file is none.
MAX_BYTES = 2**31 - 1

# The first opset whose operators ONNX Runtime promises to run.
_OLDEST_OPSET = 7

# Where runtimes look for weights in the model's folder, whatever the working directory is.
_BESIDE = re.compile(r"graph(\.node\.attribute\.(g|graphs))*\.initializer")


def require_size(path: Path) -> None:
    """Refuse what cannot be a model, before it is read into memory: EngineError for what is
    missing, no file, or larger than a protobuf can be."""
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise EngineError("cannot read the model", where=path, got=reason) from error
    if not path.is_file():
        reason = os.strerror(errno.EISDIR) if path.is_dir() else "not a regular file"
        raise EngineError("cannot read the model", where=path, got=reason)
    if size > MAX_BYTES:
        raise EngineError(
            "the model is larger than an ONNX file can be",
            where=path,
            got=f"{size} bytes",
            expected=f"at most {MAX_BYTES}; larger weights go into a file beside it",
        )


def require_opset(found: int, path: Path) -> None:
    """Refuse an opset, too old or too new, that no runtime here knows, by an EngineError."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST_OPSET <= found <= newest:
        raise EngineError(
            "the model's opset cannot be run",
            where=path,
            got=found,
            expected=f"{_OLDEST_OPSET} to {newest}",
            hint="export it again, with OPSET=17",
        )


def external_files(model: onnx.ModelProto) -> set[str]:
    """Names of the files that hold weights of the model, as they stand in it."""
    return {_location(tensor) for _, tensor in _external(model)}


def require_self_contained(model: onnx.ModelProto, path: Path) -> None:
    """Refuse text that is no text, and whatever is read from anywhere but the model's own folder.

    Raises:
        EngineError: a string that is not UTF-8; weights at an absolute or parent path, behind a
            link out of the folder, in a file that is missing or too short, or of a tensor that
            runtimes look for elsewhere; a node that holds or names a provider's compiled code.
    """
    for place, message in _messages(model):
        if any(isinstance(text, bytes) for text in _texts(message)):
            raise _refusal(path, f"{place}: a string that is not UTF-8", "names in UTF-8")
        if message.DESCRIPTOR.name == "NodeProto" and message.op_type == "EPContext":
            raise _refusal(path, f"{place}: an EPContext node", "operators alone")
    for place, tensor in _external(model):
        _require_beside(place, tensor, path)


def embed_weights(model: onnx.ModelProto, path: Path) -> None:
    """Move the weights that lie beside a model into it: what runs from memory has no folder, and
    runtimes would look in the working directory. It was read from `path` and found self-contained.

    Raises:
        EngineError: a file cannot be read, or all that tensors claim of them is more than a model
            can hold.
    """
    left = MAX_BYTES
    for _, tensor in _external(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = path.resolve().parent / entries["location"]
        length = int(entries.get("length") or 0)
        try:
            with file.open("rb") as stream:
                stream.seek(int(entries.get("offset") or 0))
                tensor.raw_data = stream.read(min(length or left, left))
        except OSError as error:
            raise EngineError("cannot read the weights", where=file, got=error.strerror) from error
        left -= len(tensor.raw_data)
        if left <= 0:
            raise EngineError("the weights beside the model are more than it can hold", where=path)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _require_beside(place: str, tensor: onnx.TensorProto, path: Path) -> None:
    keys = [entry.key for entry in tensor.external_data]
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = entries.get("location", "")
    shown = f"{place} {tensor.name}: {name!r}"
    if not _BESIDE.fullmatch(place):
        raise _refusal(path, shown, "weights in other files for initializers alone")
    folder = path.resolve().parent
    beside = name not in ("", ".", "..") and "\0" not in name and Path(name).name == name
    if not beside or len(set(keys)) < len(keys) or not _is_child(folder, name):
        raise _refusal(path, shown, "a file in the model's own folder")
    if standing := read_placeholder(folder / name):
        raise EngineError(
            f"the model's weights are {standing.kind}", where=folder / name, hint=standing.hint
        )
    numbers = [entries.get("offset") or "0", entries.get("length") or "0"]
    if not all(re.fullmatch("[0-9]{1,18}", number) for number in numbers):
        raise _refusal(path, f"{shown} from {numbers[0]!r}, {numbers[1]!r} long", "whole numbers")
    if sum(map(int, numbers)) > _size(folder / name):
        raise _refusal(path, shown, "a file that holds these weights")


def _size(file: Path) -> int:
    """Bytes of a regular file; -1 where there is none."""
    try:
        return file.stat().st_size if file.is_file() else -1
    except OSError:  # a name that is too long
        return -1


def _is_child(folder: Path, name: str) -> bool:
    """Whether a name, links followed, is one of this folder."""
    try:
        return (folder / name).resolve().parent == folder
    except (OSError, RuntimeError):  # too long, or a loop of links
        return False


def _refusal(path: Path, got: str, expected: str) -> EngineError:
    return EngineError(
        "the model holds or names what is not to be read",
        where=path,
        got=got,
        expected=expected,
        hint="save the model as one file, or with its weights beside it",
    )


def _location(tensor: onnx.TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _external(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Place and tensor of all whose values lie in another file."""
    for place, message in _messages(model):
        # 1 is TensorProto.EXTERNAL; a location without it is not read by ONNX, but by others.
        if message.DESCRIPTOR.name == "TensorProto" and (
            message.data_location == 1 or message.external_data
        ):
            yield place, message


def _messages(model: onnx.ModelProto) -> Iterator[tuple[str, Any]]:
    """Every message of a file with the fields that lead to it, by the format's own description: a
    tensor is found wherever there can be one, in fields of later versions of ONNX too."""
    todo: list[tuple[str, Any]] = [("", model)]
    while todo:
        place, message = todo.pop()
        yield place, message
        if message.DESCRIPTOR.name == "TensorProto":  # its values may be large: not listed
            todo.extend((place, entry) for entry in message.external_data)
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                inner = f"{place}.{field.name}".lstrip(".")
                single = hasattr(value, "DESCRIPTOR")
                todo.extend((inner, child) for child in ([value] if single else value))


def _texts(message: Any) -> Iterator[str | bytes]:
    """The strings of a message; protobuf gives bytes for one that is not UTF-8."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield from (message.name, message.doc_string)
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from ([value] if isinstance(value, str | bytes) else value)
