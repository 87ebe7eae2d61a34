"""Why a checkpoint is not read, before it is known which file it was."""

from __future__ import annotations


class Unreadable(Exception):
    """A file that is whole but asks for what is not given: memory, time, code, another form.

    Args:
        what: the problem in one sentence.
        got: what was found.
        hint: the next step.
    """

    def __init__(self, what: str, got: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what, self.got, self.hint = what, got, hint
