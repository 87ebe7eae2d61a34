"""What other tools leave in a state dict: names that are not the network's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]


# Buffers that thop.profile adds to every module; they count operations and change nothing.
COUNTERS = {"total_ops", "total_params"}


@dataclass(frozen=True)
class _Form:
    """A weight that a tool keeps in several tensors, and computes anew in each forward pass.

    Attributes:
        what: in words.
        parts: ends of the tensors' names, after the weight's own.
        weight: of the parts, what that tool computes in evaluation mode; None where they are no
            such parts. Float32, by the operations that torch itself uses.
    """

    what: str
    parts: tuple[str, ...]
    weight: Callable[..., torch.Tensor | None]


def _masked(weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
    return mask * weight if mask.shape == weight.shape else None


def _normalised(size: torch.Tensor, direction: torch.Tensor) -> torch.Tensor | None:
    """torch.nn.utils.weight_norm's; `size` has one value a slice of the dimension it goes along."""
    import torch

    if not size.ndim:
        return torch._weight_norm(direction, size, -1)
    if size.ndim != direction.ndim:
        return None
    along = [at for at, n in enumerate(size.shape) if n == direction.shape[at]]
    if not along or size.numel() != max(size.shape):
        return None
    return torch._weight_norm(direction, size, max(along, key=lambda at: size.shape[at]))


def _spectral(weight: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor | None:
    """torch.nn.utils.spectral_norm's, of the singular vectors that training has left."""
    import torch

    if weight.ndim < 2 or u.ndim != 1 or v.ndim != 1 or weight.numel() != len(u) * len(v):
        return None
    if weight.shape[0] != len(u):
        return None
    return weight / torch.dot(u, torch.mv(weight.flatten(1), v))


_FORMS = (
    _Form("weights with the masks of pruning", ("_orig", "_mask"), _masked),
    _Form("weights of weight_norm", ("_g", "_v"), _normalised),
    _Form("weights of weight_norm", (".original0", ".original1"), _normalised),
    _Form("weights of spectral_norm", ("_orig", "_u", "_v"), _spectral),
    _Form("weights of spectral_norm", (".original", ".0._u", ".0._v"), _spectral),
)


def resolve_leftovers(state: State, wanted: Collection[str]) -> tuple[State, list[str]]:
    """A state dict as the tool's own function would leave it (remove_weight_norm, prune.remove,
    remove_parametrizations), without counters; and what was done, in words.

    Args:
        state: names may have a prefix.
        wanted: names of the network's tensors; no other is put together.
    """
    own = {name.rpartition(".")[2] for name in wanted}
    counters = COUNTERS - own
    found = {k: value for k, value in state.items() if k.rpartition(".")[2] not in counters}
    notes = []
    if len(found) < len(state):
        left_out = len(state) - len(found)
        notes.append(f"{left_out} counters of thop (total_ops, total_params) left out")
    for form in _FORMS:
        done = 0
        for key in [key for key in found if key.endswith(form.parts[0])]:
            base = key.removesuffix(form.parts[0])
            names = [base + part for part in form.parts]
            target = base.replace("parametrizations.", "")
            if target in found or not found.keys() >= {*names} or not _ends_in(target, wanted):
                continue
            weight = form.weight(*(found[name].detach().float() for name in names))
            if weight is not None:
                for name in names:
                    del found[name]
                found[target] = weight
                done += 1
        if done:
            notes.append(f"{done} {form.what} put together")
    return found, notes


def _ends_in(name: str, wanted: Collection[str]) -> bool:
    """Whether a name, or what is left of it without a prefix, is one of the wanted."""
    parts = name.split(".")
    return any(".".join(parts[start:]) in wanted for start in range(len(parts)))


# What cannot be taken, by its names; the first that fits is said.
_HINTS = (
    (
        r"(^|\.)lora_|\.base_layer\.|^base_model\.model\.|^peft\.",
        "these are adapters of peft (LoRA) beside the weights, whose scale is not in the file: "
        "call model.merge_and_unload() and save the state_dict() of what it returns",
    ),
    (
        r"fake_quant|observer_enabled|activation_post_process|_quantizer\.|(^|\.)_?amax$"
        r"|(^|\.)(zero_point|_packed_params)(\.|$)",
        "these are of quantisation (fake quantisation, observers): the reference is the float "
        "model, so save its state_dict() from before it was prepared or converted; a quantised "
        ".onnx of your own is verified with --candidate",
    ),
    (
        r"(^|\.)parametrizations\.",
        "these are of torch.nn.utils.parametrize: call "
        "torch.nn.utils.parametrize.remove_parametrizations(module, name) on each module before "
        "saving",
    ),
    (
        r"_mask$|^torch\.nn\.utils\.prune\.",
        "these are of pruning: call torch.nn.utils.prune.remove(module, name) on each module "
        "before saving",
    ),
    (
        r"(weight|bias)_[guv]$|_orig$|^torch\.nn\.utils\.(weight|spectral)_norm\.",
        "these are of weight_norm or spectral_norm: call torch.nn.utils.remove_weight_norm(module) "
        "or remove_spectral_norm(module) on each module before saving",
    ),
)


def leftover_hint(names: Collection[str]) -> str | None:
    """What to call before saving, where names that do not fit are those of a known tool: of
    tensors, or of what a pickle calls."""
    return next(
        (hint for pattern, hint in _HINTS if any(re.search(pattern, name) for name in names)), None
    )
