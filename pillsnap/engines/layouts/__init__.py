"""Layouts of files that others exported: which one a file is of, told by what it answers.

A layout is a record; engines know none of them. What shape and values leave open is the user's to
say, and what fits no layout is refused with what was seen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from pillsnap.core.errors import ConfigError, WrongCandidate
from pillsnap.engines.layouts import classifiers, detectors
from pillsnap.engines.layouts.records import Expected, Layout, Outputs, Reading

LAYOUTS: tuple[Layout, ...] = (*detectors.LAYOUTS, *classifiers.LAYOUTS)


PLAIN = ("detections", "logits")
"""Those of what pillsnap exports."""


def layouts_of(stage: str) -> list[Layout]:
    """The layouts of a stage's files, those that tell more first."""
    return [layout for layout in LAYOUTS if layout.stage == stage]


def require_layout(stage: str, asked: str) -> tuple[Layout, str]:
    """The layout and the name of the output ("" for whichever fits) in a value of `--layout`, such
    as "logits" and "logits:head"; raises ConfigError with the choices."""
    name, _, output = asked.partition(":")
    for layout in layouts_of(stage):
        if layout.name == name:
            return layout, output
    raise ConfigError(
        f"{stage} has no such layout",
        where="--layout",
        got=f"{stage}={asked}",
        expected=", ".join(layout.name for layout in layouts_of(stage)) or "none",
    )


def read_layouts(texts: Sequence[str], candidates: Collection[str]) -> dict[str, str]:
    """Every value of `--layout` by its stage, such as "logits:head"; ConfigError where the stage
    has no candidate, or no such layout."""
    found = {}
    for text in texts:
        stage, _, name = text.partition("=")
        if stage not in candidates:
            raise ConfigError(
                "--layout says how the file of a --candidate is read",
                where="--layout",
                got=text,
                expected="STAGE=NAME or STAGE=NAME:OUTPUT, and --candidate STAGE=PATH",
            )
        require_layout(stage, name)
        found[stage] = name
    return found


def choose_layout(
    stage: str, outputs: Outputs, expected: Expected, asked: str | None, where: Path
) -> Reading:
    """How a file's outputs are to be read.

    Shapes decide; where several layouts are of one shape, values do. An output before NMS or
    softmax goes before one behind it.

    Args:
        outputs: for an image or more.
        asked: a value of `--layout`, which chooses among what shapes and values leave open.
        where: the file, for messages.

    Raises:
        WrongCandidate: no layout fits, or several do.
        ConfigError: as require_layout.
    """
    found = [
        Reading(layout, names)
        for layout in layouts_of(stage)
        for names in layout.find(outputs, expected)
    ]
    if len(found) > 1:
        by_values = [
            each
            for each in found
            if each.layout.means([outputs[name] for name in each.names], expected)
        ]
        # Where no values are as they should be, the user may know better.
        found = by_values if by_values or asked is None else found
    if asked is not None:
        layout, output = require_layout(stage, asked)
        told, found = found, [each for each in found if each.layout is layout]
        found = [each for each in found if output in ("", *each.names)]
        if told and not found:
            raise _refusal(stage, outputs, told, expected, where, f"not of layout {asked}")
    first = [each for each in found if each.layout is found[0].layout]
    rivals = [each for each in found if each not in first and {*each.names} & {*found[0].names}]
    if len(first) == 1 and not rivals:
        return first[0]
    what = "of more than one layout" if found else "of no known layout"
    raise _refusal(stage, outputs, found, expected, where, what)


def _refusal(
    stage: str,
    outputs: Outputs,
    found: Sequence[Reading],
    expected: Expected,
    where: Path,
    what: str,
) -> WrongCandidate:
    told = ", ".join(f"{each.layout.name}:{each.names[-1]}" for each in found)
    seen = "; ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())
    known = "; ".join(
        f"{each.name}{each.variants} {each.words}"
        for each in layouts_of(stage)
        if each.variants is not None
    )
    return WrongCandidate(
        f"the file is {what}",
        where=where,
        got=f"output {seen}",
        expected=f"by its shapes and values one of {told}"
        if told
        else f"{_facts(stage, expected)}: {known}",
        hint=f"give the gate --layout {stage}=NAME or NAME:OUTPUT; "
        "or export it with pillsnap, which needs no layout",
    )


def _facts(stage: str, expected: Expected) -> str:
    boxes = "" if expected.boxes is None else f", {expected.boxes} boxes"
    return f"for {expected.classes} classes{boxes} one of the layouts of {stage}"
