"""Layouts of files that others exported: which one a file is of, told by what it answers.

A layout is a record; engines know none of them. What shape and values leave open is the user's to
say, and what fits no layout is refused with what was seen.
"""

from __future__ import annotations

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


def choose_layout(
    stage: str, outputs: Outputs, expected: Expected, asked: str | None, where: Path
) -> Reading:
    """How a file's outputs are to be read.

    Shapes decide; where several layouts are of one shape, values do. An output before NMS or
    softmax goes before one behind it.

    Args:
        outputs: for an image or more.
        asked: a value of `--layout`; its values are not looked at.
        where: the file, for messages.

    Raises:
        WrongCandidate: no layout fits, or several do.
        ConfigError: as require_layout.
    """
    if asked is None:
        layouts, output = layouts_of(stage), ""
    else:
        layout, output = require_layout(stage, asked)
        layouts = [layout]
    found = [
        Reading(layout, names)
        for layout in layouts
        for names in layout.find(outputs, expected)
        if output in ("", *names)
    ]
    if len(found) > 1:
        found = [
            each
            for each in found
            if each.layout.means([outputs[name] for name in each.names], expected)
        ]
    first = [each for each in found if each.layout is found[0].layout]
    rivals = [each for each in found if each not in first and {*each.names} & {*found[0].names}]
    if len(first) == 1 and not rivals:
        return first[0]
    several = ", ".join(f"{each.layout.name}:{each.names[-1]}" for each in found)
    seen = "; ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())
    what = "several layouts fit the candidate" if found else "the candidate is of no known layout"
    shown = [each for each in layouts if each.variants is not None] or layouts
    known = "; ".join(f"{each.name}{each.variants or ''} {each.words}" for each in shown)
    raise WrongCandidate(
        what,
        where=where,
        got=seen,
        expected=several or f"{_facts(stage, expected)}: {known}",
        hint=f"say which it is with --layout {stage}=NAME, or NAME:OUTPUT; "
        "or leave --candidate out and have it exported",
    )


def _facts(stage: str, expected: Expected) -> str:
    boxes = "" if expected.boxes is None else f", {expected.boxes} boxes"
    return f"for {expected.classes} classes{boxes} one of the layouts of {stage}"
