"""Tolerances and their profiles, made from FIGURES: a figure there is a key here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from pillsnap.config.fields import STRICT
from pillsnap.config.figures import FIGURES, Figure, Profile


def _unset(figure: Figure) -> str:
    explained = ", but held to what rounding explains where exactness is judged"
    return ". null: not judged" + (explained if figure.part else "")


def _define_tolerances() -> type:
    """A class with a field for every tolerance, None by default, described by what it is of."""
    meanings: dict[str, list[str]] = {}
    for figure in FIGURES:
        meanings.setdefault(figure.limited_by, []).append(figure.meaning)
    kinds = {
        figure.limited_by: Annotated[
            Annotated[float, Field(ge=0.0, le=figure.most)] | None,
            Field(description="; ".join(meanings[figure.limited_by]) + _unset(figure)),
        ]
        for figure in FIGURES
    }
    body: dict[str, Any] = {"__module__": __name__, "__annotations__": kinds}
    return type("Tolerances", (), body | dict.fromkeys(kinds))


if TYPE_CHECKING:

    @dataclass(frozen=True)
    class Tolerances:
        """Largest value allowed for each figure, in its unit; None is not judged."""

        def __init__(self, **limits: float | None) -> None: ...
        def __getattr__(self, name: str) -> float | None: ...

else:
    Tolerances = dataclass(frozen=True, config=STRICT)(_define_tolerances())


def _limits_of(profile: Profile) -> Tolerances:
    return Tolerances(**{figure.limited_by: figure.limits.get(profile) for figure in FIGURES})


@dataclass(frozen=True, config=STRICT)
class Profiles:
    """Tolerance profiles; `profile` names the one that fp32 cells are held to."""

    profile: Profile = "strict"
    strict: Tolerances = _limits_of("strict")
    practical: Tolerances = _limits_of("practical")
    fp16: Tolerances = _limits_of("fp16")
    int8: Tolerances = _limits_of("int8")
