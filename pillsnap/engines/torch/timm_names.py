"""Names that a backbone's weights had elsewhere: in an older timm, or in its authors' code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pillsnap.engines.torch.fit import find_misfit

if TYPE_CHECKING:
    import torch


def under_current_names(
    module: torch.nn.Module, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """A state dict by this timm's names, made by the family's own checkpoint_filter_fn, as timm
    itself takes weights from a file; None where that does not make it fit.

    Only what is renamed, reshaped, cut or left out is taken: the same functions resample weights of
    another image size and fill in what is missing, which would be another network.

    Args:
        state: without its trainer's prefix, but for DataParallel's.
    """
    convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    from timm.models import clean_state_dict

    try:
        found = convert(clean_state_dict(dict(state)), module)
        own = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
        kept = all(tensor.untyped_storage().data_ptr() in own for tensor in found.values())
    except Exception:  # of names that it does not know either
        return None
    return found if kept and not find_misfit(module, found) else None
