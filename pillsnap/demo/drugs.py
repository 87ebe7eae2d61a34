"""The twenty-four invented drugs of the demo. Every code and imprint is made up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drug:
    """One drug, as far as a photo can tell it from another."""

    code: str
    """Mapping code, the classifier's class name: "K-" and six digits."""
    edi_code: str
    """Nine digits, what the pipeline finally reports."""
    shape: str
    """"round", "oval", "oblong" or "square"."""
    colour: str
    """A name in `COLOURS`; "left/right" for a pill of two halves."""
    scored: bool
    """Whether a score line divides the face, and the imprint with it."""
    imprint: str
    """The characters pressed into the face."""


COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (236, 234, 228),
    "yellow": (238, 206, 92),
    "orange": (234, 146, 70),
    "pink": (236, 160, 172),
    "red": (200, 66, 62),
    "green": (128, 184, 122),
    "blue": (112, 158, 210),
    "tan": (206, 170, 128),
}
"""RGB, 0 to 255, under neutral light."""

# Shape, colour, score line, then the imprints that alone tell the group's members apart.
_GROUPS: tuple[tuple[str, str, bool, tuple[str, ...]], ...] = (
    ("round", "white", False, ("B8", "B3", "E8")),
    ("round", "white", True, ("A1", "A4")),
    ("round", "yellow", False, ("5", "6")),
    ("round", "blue", True, ("C0", "C6")),
    ("oval", "white", False, ("L20", "L26")),
    ("oval", "pink", False, ("P5", "PS", "R5")),
    ("oval", "green", True, ("V7",)),
    ("oblong", "white", False, ("M15", "M16")),
    ("oblong", "red/white", False, ("X25", "X52")),
    ("oblong", "tan", True, ("T9",)),
    ("oblong", "blue/yellow", False, ("N3",)),
    ("square", "orange", False, ("H2", "HZ")),
    ("square", "green", False, ("K4",)),
)

# Gaps between the codes: nothing may rely on a code being an index.
DRUGS: tuple[Drug, ...] = tuple(
    Drug(
        code=f"K-{123 + 37 * index:06d}",
        edi_code=f"{640_000_110 + 1_307_210 * index:09d}",
        shape=shape,
        colour=colour,
        scored=scored,
        imprint=imprint,
    )
    for index, (shape, colour, scored, imprint) in enumerate(
        (shape, colour, scored, imprint)
        for shape, colour, scored, imprints in _GROUPS
        for imprint in imprints
    )
)
"""All drugs; a drug's position is its class index."""
