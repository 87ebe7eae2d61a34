"""What ultralytics' own exports say of themselves, held against what they are verified for.

Classes in another order answer as they should to every image of the rest: whoever ships the file
goes by its names.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from pillsnap.config.settings import Config
from pillsnap.core.errors import WrongCandidate
from pillsnap.core.printable import printable
from pillsnap.data.maps import read_class_map
from pillsnap.export.onnxfile import Exported

# No entry of an export is longer, however many classes it names.
_LONGEST = 1 << 20

# Classes that a message names.
_NAMED = 3


def require_named_fit(
    exported: Exported,
    config: Config,
    stage: str,
    class_names: Sequence[str] = (),
    strides: Sequence[int] = (),
) -> None:
    """Hold a file to the names, stride, image size and channels that ultralytics wrote into it; of
    a file without, nothing is asked.

    Args:
        class_names, strides: of the reference; empty where they are not known.

    Raises:
        WrongCandidate: its classes are more, fewer, others or in another order; its largest stride
            is another; or it takes images of another size alone.
        DataError: the class map cannot be read.
    """
    entries = exported.metadata
    if not _is_of_ultralytics(exported):
        return
    names, settings = _names(entries.get("names")), getattr(config, stage)
    if names:
        _require(exported, "number of classes", len(names), settings.num_classes)
        _require_names(exported, names, class_names or _mapped_names(config, names))
    stride = _literal(entries.get("stride"))
    if strides and isinstance(stride, int):
        _require(exported, "largest stride", stride, max(strides))
    channels = _literal(entries.get("channels", "3"))
    _require(exported, "number of channels", channels, 3)
    size, wanted = _literal(entries.get("imgsz")), list(config.input_shape(stage)[2:])
    dynamic = _literal(entries.get("args"))
    free = isinstance(dynamic, Mapping) and dynamic.get("dynamic")
    if isinstance(size, list) and not free:
        _require(exported, "image size", size, wanted)


def unchecked_names(exported: Exported, config: Config, class_names: Sequence[str]) -> str | None:
    """Why the names that a file has could not be held to the reference's; None where they were, or
    it has none. Raises DataError where the class map cannot be read."""
    entry = exported.metadata.get("names")
    if not (entry and _is_of_ultralytics(exported)):
        return None
    names = _names(entry)
    if not names:
        return f"the names of its classes cannot be read ({printable(entry, 60)})"
    if class_names or _mapped_names(config, names):
        return None
    return f"nothing here names classes as it does ({_shown([*enumerate(names)])})"


def _is_of_ultralytics(exported: Exported) -> bool:
    return exported.metadata.get("author") == "Ultralytics"


def _mapped_names(config: Config, names: Sequence[str]) -> Sequence[str]:
    """The codes of the class map by index, where these names are codes; else ()."""
    if config.data.class_map is None:
        return ()
    by_name = read_class_map(config.data.class_map, config.classification.num_classes)
    known = by_name.keys() == {*names}
    return sorted(by_name, key=by_name.__getitem__) if known else ()


def _require_names(exported: Exported, names: Sequence[str], known: Sequence[str]) -> None:
    if not known or [*names] == [*known]:
        return
    pairs = enumerate(zip(names, known, strict=True))
    differing = [(index, *pair) for index, pair in pairs if pair[0] != pair[1]]
    order = {*names} == {*known}
    raise WrongCandidate(
        "the candidate's classes are " + ("in another order" if order else "others"),
        where=exported.path,
        got=_shown([(index, found) for index, found, _ in differing]),
        expected=_shown([(index, name) for index, _, name in differing]),
        hint="export it from the checkpoint that is configured, or mend the class map",
    )


def _shown(classes: Sequence[tuple[int, str]]) -> str:
    named = ", ".join(f"{index} {printable(name, 60)}" for index, name in classes[:_NAMED])
    return named + (f" and {len(classes) - _NAMED} more" if len(classes) > _NAMED else "")


def _require(exported: Exported, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WrongCandidate(
            f"the candidate was exported for another {what}",
            where=exported.path,
            got=f"{printable(str(found), 60)} (its metadata)",
            expected=expected,
            hint="export it again from the checkpoint and for the input_shape that are configured",
        )


def _names(text: str | None) -> list[str]:
    """Names by index, of a list or of a dict whose keys may be text; [] where the entry is missing
    or holds something else."""
    found = _literal(text)
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        return []
    by_index = {str(key): name for key, name in found.items()}
    indices = [str(index) for index in range(len(found))]
    return [str(by_index[key]) for key in indices] if by_index.keys() == {*indices} else []


def _literal(text: str | None) -> Any:
    """A value as Python writes it; None where the text is none."""
    try:
        return None if text is None or len(text) > _LONGEST else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
