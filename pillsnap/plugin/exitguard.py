"""A process that own code ends from inside has passed nothing, whatever code it ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# As of other runs that are incomplete.
_INCOMPLETE = 3


@contextmanager
def noticed_exit(config: pytest.Config) -> Iterator[None]:
    """While items run, have os._exit, which a builder or a library may call, end this process with
    exit code 3 and a message: nothing else is left to judge the run. Processes that were forked
    from it end as they like."""
    own, leave = os.getpid(), os._exit

    def say_so(status: int) -> None:
        if os.getpid() != own:
            leave(status)
        capture = config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        print(
            f"\nERROR: the gate was ended by os._exit({status}) before it had a verdict: code that "
            "it runs, as a builder, or a library of that, called it",
            file=sys.stderr,
            flush=True,
        )
        leave(status or _INCOMPLETE)

    os._exit = say_so  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = leave
