"""While a checkpoint is read, its thread opens no connection and starts no process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pillsnap.engines.torch.torchfile.budget import Unreadable

# Python's audit events; torch.hub and ultralytics fetch by way of these alone.
_REFUSED = (
    "ctypes.dlopen",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "socket.",
    "subprocess.",
    "urllib.",
)

_thread = threading.local()


@contextmanager
def guarded() -> Iterator[None]:
    """Refuse network and processes in this thread until the block ends: Unreadable comes out of
    whatever tried."""
    _install()
    before = getattr(_thread, "guarded", False)
    _thread.guarded = True
    try:
        yield
    finally:
        _thread.guarded = before


@cache
def _install() -> None:
    sys.addaudithook(_refuse)


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    if event.startswith(_REFUSED) and getattr(_thread, "guarded", False):
        raise Unreadable("reading the checkpoint would use the network or start a process", event)
