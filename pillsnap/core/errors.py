"""Errors that a user can act on: what, where, got, expected, and what to do next."""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from typing import Any

from pillsnap.core.printable import printable


def first_line(error: BaseException | str, most: int = 300) -> str:
    """What an error or a text says first; an error without a text is named by its kind."""
    lines = str(error).strip().splitlines()
    if lines:
        return lines[0].strip()[:most]
    return error if isinstance(error, str) else type(error).__name__


class PillsnapError(Exception):
    """Base of every error a user can cause and mend; shown as a message, never as a traceback.

    Args:
        what: the problem in one sentence.
        where: the file, key or option it was found in.
        got: what was found there.
        expected: what would have been right, choices included.
        hint: the next step.
        details: errors that this one stands for, told below it.

    Texts are made printable: names, keys and metadata may hold anything.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
        details: Sequence[PillsnapError] = (),
    ) -> None:
        self.what = printable(what)
        facts = (("where", where), ("got", got), ("expected", expected), ("try", hint))
        lines = [
            self.what,
            *(f"  {n + ':':<10}{printable(value)}" for n, value in facts if value is not None),
            *map(str, details),
        ]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would hand the message to __init__, as if it were `what`.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ConfigError(PillsnapError):
    """config.yaml, .env or an option is wrong. Exit code 4 under pytest."""


class DataError(PillsnapError):
    """Validation images, labels, manifests or maps are missing or broken."""


class ImageError(DataError):
    """One image cannot be read; the others go on."""


class CheckpointError(PillsnapError):
    """A checkpoint is missing, damaged, refused or does not fit the configuration."""


class MissingCheckpoint(CheckpointError):
    """There is no checkpoint where one was looked for."""


class ExportError(PillsnapError):
    """The ONNX file could not be made, or is not what was asked for."""


class EngineError(PillsnapError):
    """An engine or provider cannot run the model it was given."""


class WrongCandidate(PillsnapError):
    """The candidate is another model than the one it is verified for: a breach, not a mishap."""


class EngineMissing(EngineError):
    """The library behind an engine is not installed."""
