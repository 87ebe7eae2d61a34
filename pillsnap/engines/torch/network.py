"""A network of ultralytics as it came out of a pickle: its structure, and that it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.core.errors import CheckpointError
from pillsnap.core.printable import printable
from pillsnap.engines.torch.leftovers import COUNTERS
from pillsnap.engines.torch.raw_boxes import has_queries
from pillsnap.engines.torch.torchfile.objects import StandIn

if TYPE_CHECKING:
    import torch

# Twice and more what ultralytics' largest detectors have: yolov9e, 1,225 layers, 12 deep.
_LAYERS = 10_000
_DEPTH = 50

# A pass of yolov9e at the trial's size takes 1,400 operations, of 13 million values at most.
_TRIAL = 640
_OPERATIONS = 20_000
_VALUES = 2**28

_MAX_STRIDE = 1024

# RT-DETRs have 300.
_MOST_QUERIES = 10_000

_PLAIN = (str, int, float)


def require_network(model: Any, path: Path) -> None:
    """Check what loading, converting and walking a network rely on; nothing of it is run.

    Raises:
        CheckpointError: unknown layers, layers within themselves or used twice, too many; layers
            without their places, strides or names of another form.
    """
    _require_tree(model, path)
    torch_layers = _sequence(model)
    if not torch_layers:
        raise _odd(path, "its network", type(getattr(model, "model", None)).__name__, "layers")
    save = getattr(model, "save", None)
    if not isinstance(save, list) or not all(type(index) is int for index in save):
        raise _odd(path, "the list of outputs to keep", save, "indices of layers")
    for index, layer in enumerate(torch_layers):
        source = getattr(layer, "f", None)
        sources = source if isinstance(source, list) else [source]
        if getattr(layer, "i", None) != index or not all(
            type(place) is int and (place == -1 or -index <= place < index) for place in sources
        ):
            raise _odd(path, f"layer {index}'s place", source, "indices of layers before it")


def require_known_layers(model: torch.nn.Module, path: Path) -> None:
    """Refuse an SPPF with a shortcut, as YOLO26 has, or of another number of poolings, where SPPF
    knows of neither: before 8.4 it leaves them out without a word, and so would the export. A
    CheckpointError names the layer and the installed version."""
    version = import_module("ultralytics").__version__
    for name, layer in model.named_modules():
        if type(layer).__name__ != "SPPF" or "shortcut" in signature(type(layer)).parameters:
            continue
        held = vars(layer)
        if held.get("add", False) is not False or str(held.get("n", 3)) != "3":
            raise CheckpointError(
                "the checkpoint is of a later ultralytics, whose layers compute something else",
                where=path,
                got=f"{name}: an SPPF as ultralytics {version} has none",
                expected="the ultralytics that trained it, or a later one",
                hint="pip install --upgrade the ultralytics that is installed",
            )


def require_head(head: Any, path: Path) -> None:
    """Refuse classes, strides or queries of a head that no detector has, by a CheckpointError."""
    import torch

    classes, stride = getattr(head, "nc", None), getattr(head, "stride", None)
    if type(classes) is not int or classes < 1:
        raise _odd(path, "its number of classes", classes, "a whole number")
    if has_queries(head):
        if type(head.num_queries) is not int or not 1 <= head.num_queries <= _MOST_QUERIES:
            raise _odd(path, "its number of queries", head.num_queries, "a whole number")
        return
    strides = stride.tolist() if isinstance(stride, torch.Tensor) and stride.ndim == 1 else []
    if not strides or not all(
        isinstance(value, float) and value.is_integer() and 1 <= value <= _MAX_STRIDE
        for value in strides
    ):
        shown = strides or (list(stride.shape) if isinstance(stride, torch.Tensor) else stride)
        raise _odd(path, "its strides", shown, "one whole number a head, in pixels")


def class_names(model: Any, path: Path) -> tuple[str, ...]:
    """Names of the classes by index, () when the checkpoint has none; CheckpointError where they
    are neither a list nor a mapping of all indices. As ultralytics does, keys become whole numbers
    and names that are none (of a YAML, 1 or True) texts."""
    names = getattr(model, "names", None)
    if names is None:
        return ()
    entries = dict(enumerate(names)) if isinstance(names, list | tuple) else names
    found: dict[int, str] = {}
    if isinstance(entries, Mapping) and all(isinstance(each, _PLAIN) for each in entries.values()):
        with suppress(TypeError, ValueError, OverflowError):
            found = {int(key): str(name) for key, name in entries.items()}
    if not isinstance(entries, Mapping) or found.keys() != {*range(len(entries))}:
        expected = "a list, or a mapping of all indices from 0 on"
        raise _odd(path, "its class names", names, expected)
    return tuple(found[index] for index in range(len(found)))


def cells_of(strides: tuple[int, ...]) -> int | None:
    """How many boxes heads of these strides have in try_network; None for none."""
    return sum(math.ceil(_TRIAL / stride) ** 2 for stride in strides) or None


def try_network(module: torch.nn.Module, wanted: tuple[int | None, ...], path: Path) -> None:
    """Run a network on shapes alone, without memory or arithmetic.

    Args:
        wanted: the shape of its output for [1,3,H,W]; None is any number.

    Raises:
        CheckpointError: it does not run, not in reasonable bounds, or gives something else.
    """
    import torch

    state = {
        name: tensor.to("meta")
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    images = torch.empty(1, 3, _TRIAL, _TRIAL, device="meta")
    try:
        with torch.inference_mode(), _bounds():
            output = torch.func.functional_call(module, state, (images,))
        found = tuple(output.shape)
    except Exception as error:  # whatever layers that do not fit together raise
        raise broken_network(path, error) from error
    fits = (size in (None, each) for size, each in zip(wanted, found, strict=False))
    if len(found) != len(wanted) or not all(fits):
        raise broken_network(path, f"output {list(found)} in place of {list(wanted)}")


def last_layer(model: object) -> str:
    """Name of the class of a model's last layer, made or not; "none" without."""
    layers = _sequence(model)
    if not layers:
        return "none"
    last = layers[-1]
    return last.name.rsplit(".", 1)[-1] if isinstance(last, StandIn) else type(last).__name__


def _sequence(model: object) -> list[Any]:
    """The layers of a model, of one that is a stand-in too."""
    import torch

    state = model.state if isinstance(model, StandIn) else vars(model)
    modules = state.get("_modules") if isinstance(state, dict) else None
    layers = modules.get("model") if isinstance(modules, dict) else None
    if type(layers) is not torch.nn.Sequential:
        return []
    return list(vars(layers).get("_modules", {}).values())


def _require_tree(model: torch.nn.Module, path: Path) -> None:
    """Walk a model's layers without recursion: it may be deep, or run in circles."""
    import torch

    seen: set[int] = set()
    todo: list[tuple[str, Any, int]] = [("model", model, 0)]
    while todo:
        name, layer, depth = todo.pop()
        if isinstance(layer, StandIn):
            raise CheckpointError(
                "the network has a layer that is not known here",
                where=path,
                got=printable(f"{name}: {layer.name}", 200),
                expected="layers of this version of ultralytics and of torch.nn",
                hint="train with ultralytics' own layers; the gate cannot verify a network of "
                "other ones, nor of layers that only a later ultralytics has",
            )
        held = vars(layer)
        if "_modules" not in held:
            raise _odd(path, f"layer {name}", "a layer without a state", "its weights")
        buffers = {*held["_buffers"]} - COUNTERS
        bare = not held["_modules"] and not held["_parameters"] and not buffers
        if id(layer) in seen and not bare:  # an activation may serve many layers
            raise _odd(path, f"layer {name}", "also at another place", "one place")
        seen.add(id(layer))
        if depth > _DEPTH or len(seen) + len(todo) > _LAYERS:
            raise _odd(path, "its network", "too many layers", f"at most {_LAYERS:,}")
        for key, value in held.items():
            if key != "_modules" and isinstance(value, torch.nn.Module):
                raise _odd(path, f"{name}.{key}", "a layer", "a plain value")
        for key, child in held["_modules"].items():
            if child is not None:
                todo.append((f"{name}.{key}", child, depth + 1))


def _bounds() -> Any:
    """A mode that ends a pass which grows beyond measure."""
    import torch
    from torch.overrides import TorchFunctionMode

    mode: Any = TorchFunctionMode

    class Bounds(mode):  # type: ignore[misc]
        count = 0

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.count += 1
            if self.count > _OPERATIONS:
                raise ValueError(f"more than {_OPERATIONS:,} operations")
            result = func(*args, **(kwargs or {}))
            for part in result if isinstance(result, tuple | list) else (result,):
                if isinstance(part, torch.Tensor) and part.shape.numel() > _VALUES:
                    raise ValueError(f"{func} gives {list(part.shape)}")
            return result

    return Bounds()


def _odd(path: Path, what: str, got: object, expected: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is not as ultralytics writes it: {what}",
        where=path,
        got=printable(got, 200),
        expected=expected,
        hint="save it anew with the ultralytics that trained it",
    )


def broken_network(path: Path, reason: object) -> CheckpointError:
    """The error of a network that does not run, for `reason`."""
    return CheckpointError(
        "the checkpoint's network does not run",
        where=path,
        got=printable(str(reason).strip() or type(reason).__name__, 200),
        hint="does it run where it was trained? save it anew with the ultralytics that did it",
    )
