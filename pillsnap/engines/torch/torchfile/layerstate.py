"""The state of a pickled layer: tensors, layers and plain values, nothing that changes its code."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pillsnap.core.printable import printable
from pillsnap.engines.torch.torchfile.objects import OwnForward, StandIn
from pillsnap.engines.torch.torchfile.unreadable import Unreadable

if TYPE_CHECKING:
    import torch


_HELD = ("_buffers", "_modules", "_parameters")


def fill_layer(layer: torch.nn.Module, state: object) -> None:
    """Give a layer that was made without its constructor the state of its pickle.

    Raises:
        Unreadable: the state has methods, hooks, or other things than its class would hold.
    """
    if not isinstance(state, dict) or vars(layer):
        raise _refusal(layer, "its state", "a second state" if vars(layer) else type(state))
    own: dict[Any, Any] = {name: {} for name in _HELD} | state
    fused = False
    for name in list(own):
        value = own[name]
        if type(name) is not str:
            raise _refusal(layer, "an attribute's name", name)
        if name == "forward" and isinstance(value, OwnForward) and value.layer is layer:
            fused = hasattr(type(layer), "forward_fuse")
            del own[name]
        elif name in _HELD:
            _require_parts(layer, name, value)
        elif name.endswith("_hooks") or name == "_compiled_call_impl":
            if value:
                raise _refusal(layer, name, value)
        elif name == "type" and isinstance(value, str):
            pass  # ultralytics writes the class's name over this method of torch's
        elif name.startswith("__") or inspect.isroutine(
            inspect.getattr_static(type(layer), name, None)
        ):
            raise _refusal(layer, f"a {name} of its own", value)
    made: Any = layer
    type(made).__setstate__(made, own)
    if fused:
        made.forward = made.forward_fuse


def _require_parts(layer: torch.nn.Module, name: str, held: Any) -> None:
    """Check that parameters, buffers and layers are such."""
    import torch

    allowed: dict[str, Any] = {
        "_buffers": torch.Tensor,
        "_modules": torch.nn.Module | StandIn,  # of an unknown class; said by name later
        "_parameters": torch.nn.Parameter,
    }
    if not isinstance(held, dict):
        raise _refusal(layer, name, held)
    for key, part in held.items():
        if type(key) is not str or not (part is None or isinstance(part, allowed[name])):
            raise _refusal(layer, f"{name} {key}", part)


def _refusal(layer: torch.nn.Module, what: str, found: object) -> Unreadable:
    shown = found.name if isinstance(found, StandIn) else f"a {type(found).__name__}"
    return Unreadable(
        "a layer of the checkpoint is not as its class makes it",
        printable(f"{type(layer).__name__} with {what}: {shown}", 200),
        "save the model again with the ultralytics that trained it",
    )
