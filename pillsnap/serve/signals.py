"""Signals while nobody is served yet."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGINT end the process at once, whatever it computes.

    Servers have handlers by then that set a flag for their loop, which does not run yet.
    """
    if threading.current_thread() is not threading.main_thread():  # who may set no handler
        yield
        return
    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, signal.SIG_DFL) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
