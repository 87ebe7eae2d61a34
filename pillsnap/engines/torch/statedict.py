"""A classifier's weights in what a checkpoint holds: under its trainer's key and prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.errors import CheckpointError

if TYPE_CHECKING:
    import torch

# Averaged weights first, as timm and ultralytics do: they are what is evaluated and shipped.
KEYS = (
    "ema",
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "shadow",
)

# BatchNorm fills this counter in by itself when an old checkpoint lacks it.
COUNTER = ".num_batches_tracked"


def find_weights(
    content: object, wanted: Collection[str], path: Path
) -> dict[str, torch.Tensor] | None:
    """The tensors of a network in a checkpoint, by the network's own names.

    What lies first under KEYS and has any of the network's names is taken: an `ema` of settings, or
    of a list, is not. Prefixes of DataParallel, torch.compile, AveragedModel and Lightning are
    taken off; where all names stand behind one, what stands beside it (a loss's weights, say) is
    left out.

    Args:
        content: what torch.load gave.
        wanted: names of the network's tensors.
        path: of the checkpoint, for messages.

    Returns:
        Tensors by name, some of them perhaps missing or too many; None where there are no tensors
        by name at all.

    Raises:
        CheckpointError: all names stand there more than once, behind several prefixes.
    """
    largest: dict[str, torch.Tensor] | None = None
    for found in _named_tensors(content, 3):
        state = {key.replace("_orig_mod.", ""): value for key, value in found.items()}
        prefixes = _prefixes(state, wanted)
        if prefixes:
            return _behind(state, prefixes, wanted, path)
        largest = state if largest is None or len(state) > len(largest) else largest
    return largest


def _named_tensors(content: object, depth: int) -> Iterator[dict[str, torch.Tensor]]:
    """All mappings of tensors, in the order of KEYS, at most `depth` levels deep."""
    import torch

    if not isinstance(content, Mapping) or not content or not depth:
        return
    if all(isinstance(value, torch.Tensor) for value in content.values()):
        yield {str(key): value for key, value in content.items()}
        return
    for key in KEYS:
        yield from _named_tensors(content.get(key), depth - 1)


def _prefixes(state: Collection[str], wanted: Collection[str]) -> Counter[str]:
    """How many of the wanted names stand behind each prefix, "" included."""
    found: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for start in range(len(parts)):
            name = ".".join(parts[start:])
            if name in wanted and not name.endswith(COUNTER):
                found[key.removesuffix(name)] += 1
    return found


def _behind(
    state: dict[str, torch.Tensor], prefixes: Counter[str], wanted: Collection[str], path: Path
) -> dict[str, torch.Tensor]:
    """What stands behind the prefix that has most of the wanted names."""
    most = sum(not name.endswith(COUNTER) for name in wanted)
    whole = sorted(prefix for prefix, count in prefixes.items() if count == most)
    if len(whole) > 1:
        raise CheckpointError(
            "the checkpoint holds the weights several times, behind different prefixes",
            where=path,
            got=", ".join(prefix or "no prefix" for prefix in whole),
            hint="save a checkpoint with the one that is to be exported",
        )
    prefix = prefixes.most_common(1)[0][0]
    if not whole and 2 * sum(key.startswith(prefix) for key in state) < len(state):
        prefix = ""  # a few names that are alike by chance
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
