"""The weights in what a checkpoint holds: under its trainer's key and prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.core.errors import CheckpointError
from pillsnap.core.printable import listed, printable
from pillsnap.engines.torch.leftovers import resolve_leftovers

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

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

# What torch.compile puts before the names of the network it wraps, at any depth.
_COMPILED = "_orig_mod."

# BatchNorm fills this counter in by itself when an old checkpoint lacks it.
COUNTER = ".num_batches_tracked"

_SHOWN = 8


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a checkpoint.

    Attributes:
        names: of the network's tensors.
        chosen: the entry that config chooses; None takes the first.
        setting: config's key for it.
        adapt: gives a state dict of other names those of the network, if it knows how.
    """

    names: Collection[str]
    chosen: str | None
    setting: str
    adapt: Callable[[State], State | None] = lambda _: None


@dataclass(frozen=True)
class Weights:
    """A network's tensors in a checkpoint.

    Attributes:
        state: by the network's own names, some perhaps missing or too many.
        entry: the keys that lead to them, dotted, with the prefix where several have all names; ""
            for weights that stand by themselves.
        entries: of all weights of this network in the file, this one's included.
        notes: what was done to them, in words.
        place: the keys alone.
        fits: whether any of the names are the network's.
    """

    state: State
    entry: str
    entries: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    fits: bool = False

    @property
    def known(self) -> bool:
        """Whether trainers are known to keep weights there."""
        return all(not key or key in KEYS for key in self.place)


def find_weights(content: object, wanted: Wanted, path: Path) -> Weights | None:
    """The tensors of a network in a checkpoint, by the network's own names.

    What lies first under KEYS and has any of the network's names is taken, unless config chooses:
    an `ema` of settings, or of a list, is not. Prefixes of DataParallel, torch.compile,
    AveragedModel and Lightning are taken off; where all names stand behind one, what stands beside
    it (a loss's weights, say) is left out.

    Args:
        content: what the file holds.
        path: of the checkpoint, for messages.

    Returns:
        None where there are no tensors by name at all.

    Raises:
        CheckpointError: there is no entry of the name that is chosen; or none is chosen, and all
            names stand there behind several prefixes, or under keys that are not looked at alone.
    """
    found = [
        weights
        for place, tensors in _named_tensors(content, (), 3)
        for weights in _readings(place, tensors, wanted)
    ]
    fitting = [weights for weights in found if weights.fits]
    entries = tuple(weights.entry for weights in fitting if weights.entry)
    if wanted.chosen is not None:
        taken = next((each for each in found if each.entry == wanted.chosen), None)
        if taken is None:
            raise wrong_entry(wanted.chosen, entries, wanted.setting, path)
        return replace(taken, entries=entries)
    known = [weights for weights in found if weights.known]
    taken = next((weights for weights in known if weights.fits), None)
    if taken is None:
        if fitting:
            raise CheckpointError(
                "the weights are under a key that is not looked at by itself",
                where=path,
                got=_listed(entries),
                expected=f"bare, or under one of {', '.join(KEYS)}",
                hint=f"set {wanted.setting}: {printable(entries[0], 60)}",
            )
        return max(known, key=lambda weights: len(weights.state), default=None)
    alike = [weights.entry for weights in fitting if weights.place == taken.place]
    if len(alike) > 1:
        prefixes = [f"{entry[len(_dotted(taken.place)) :].lstrip('.')}." for entry in alike]
        raise CheckpointError(
            "the checkpoint holds the weights several times, behind different prefixes",
            where=path,
            got=_listed(prefixes),
            hint=f"set {wanted.setting} to one of {_listed(alike)}",
        )
    return replace(taken, entries=entries)


def wrong_entry(chosen: str, entries: Collection[str], setting: str, path: Path) -> CheckpointError:
    """The error of an entry that a checkpoint has not."""
    return CheckpointError(
        "the checkpoint has no weights of this network under the entry that config chooses",
        where=path,
        got=f"{setting}: {printable(chosen, 60)}",
        expected=_listed(entries) or "null: its weights stand by themselves",
        hint=f"set {setting} to one that is there, or null",
    )


def _named_tensors(
    content: object, place: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], State]]:
    """All mappings of tensors with the keys that lead to them: those of KEYS in their order, then
    others in the file's, at most `depth` levels deep."""
    import torch

    if not isinstance(content, Mapping) or not content or not depth:
        return
    if all(isinstance(value, torch.Tensor) for value in content.values()):
        yield place, {str(key): value for key, value in content.items()}
        return
    others = [key for key in content if isinstance(key, str) and key not in KEYS]
    for key in (*KEYS, *others):
        yield from _named_tensors(content.get(key), (*place, key), depth - 1)


def _readings(place: tuple[str, ...], tensors: State, wanted: Wanted) -> Iterator[Weights]:
    """The weights in a mapping of tensors: several where several prefixes have all names."""
    bare = {key.replace(_COMPILED, ""): value for key, value in tensors.items()}
    # Compiled and not under one name after another: two sets, told apart by the prefix as any are.
    state, notes = resolve_leftovers(bare if len(bare) == len(tensors) else tensors, wanted.names)
    prefixes = _prefixes(state, wanted.names)
    most = sum(not name.endswith(COUNTER) for name in wanted.names)
    whole = sorted(prefix for prefix, count in prefixes.items() if count == most)
    if len(whole) > 1:
        for prefix in whole:
            entry = _dotted((*place, prefix.rstrip(".")))
            yield Weights(_behind(state, prefix), entry, (), (*notes,), place, True)
        return
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    if not whole and 2 * sum(key.startswith(prefix) for key in state) < len(state):
        prefix = ""  # a few names that are alike by chance
    part = _behind(state, prefix)
    fits = bool(prefixes)
    if part.keys() - _counters(part) != {*wanted.names} - _counters(wanted.names):
        adapted = wanted.adapt(part)
        if adapted is not None:
            part, fits = adapted, True
            notes.append("names of an older timm, or of the network's authors, taken as timm does")
    yield Weights(part, _dotted(place), (), (*notes,), place, fits)


def _counters(names: Collection[str]) -> set[str]:
    return {name for name in names if name.endswith(COUNTER)}


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


def _behind(state: State, prefix: str) -> State:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _dotted(keys: Collection[str]) -> str:
    return ".".join(key for key in keys if key)


def _listed(names: Collection[str]) -> str:
    return listed([name or "no prefix" for name in names], _SHOWN, 60)
