"""Threads that the end of the process does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start_thread(function: Callable[[], T]) -> Future[T]:
    """Call a function in a thread of its own, which an executor's would not let the process leave
    behind; the future cannot be called off."""
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def work() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:  # whatever it is, somebody waits for an answer
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer
