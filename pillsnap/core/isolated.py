"""A function run in a process of its own: one that hangs or crashes can be ended there."""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from pillsnap.core.errors import PillsnapError

P = ParamSpec("P")
R = TypeVar("R")

_COMMAND = [sys.executable, "-m", "pillsnap.core.isolated"]
# prctl(2): the signal that a process gets when the thread that started it ends.
_PR_SET_PDEATHSIG = 1


class IsolatedError(PillsnapError):
    """The process did not answer: it ran too long, or ended by a signal or an error of its own."""


def run_isolated(
    seconds: float, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Call a function in a new process and return what it returns.

    Args:
        seconds: how long the process may live, imports included.
        function: of a module, so that it pickles by name, as its arguments and result must.

    Raises:
        PillsnapError: what the function raised.
        IsolatedError: the process was ended after `seconds`, or ended by itself; it says how, with
            the last line that it wrote to its standard error.
    """
    request = pickle.dumps(sys.path) + pickle.dumps((function, args, kwargs))
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(_COMMAND, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                stdout, stderr = process.communicate(request, timeout=seconds)
            except BaseException:  # an interrupt too: the process does not outlive this call
                process.kill()
                process.wait()
                raise
    except subprocess.TimeoutExpired:
        raise IsolatedError("it was ended", got=f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise IsolatedError("no process could be started", got=error.strerror) from error
    if process.returncode:
        raise IsolatedError("its process ended", got=_ending(process.returncode, stderr))
    raised, answer = pickle.loads(stdout)  # of our own child
    if raised is not None:
        raise raised
    found: R = answer
    return found


class Standby:
    """A process that waits for calls, where starting one for each would cost too much.

    One call at a time. The process starts with the first; where it had to be ended, or ended by
    itself, another starts with the next.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __del__(self) -> None:
        self.close()

    def call(
        self, seconds: float, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As run_isolated; of the process's standard error nothing is kept."""
        if self._process is None:
            pipe, none = subprocess.PIPE, subprocess.DEVNULL
            # Out of reach of a Ctrl-C, which is for the process that calls.
            self._process = subprocess.Popen(
                _COMMAND, stdin=pipe, stdout=pipe, stderr=none, start_new_session=True
            )
        process, late = self._process, threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            pickle.dump(sys.path, process.stdin)
            pickle.dump((function, args, kwargs), process.stdin)
            process.stdin.flush()
            raised, answer = pickle.load(process.stdout)  # of our own child
        except (OSError, EOFError, pickle.UnpicklingError):
            timer.cancel()
            self.close()
            if late.is_set():
                raise IsolatedError("it was ended", got=f"no answer within {seconds:g} s") from None
            raise IsolatedError("its process ended", got=_ending(process.returncode, b"")) from None
        finally:
            timer.cancel()
            timer.join()
        if late.is_set():  # it answered just in time
            self.close()
        if raised is not None:
            raise raised
        found: R = answer
        return found

    def close(self) -> None:
        """End the process, which must have no call to work on."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _ending(code: int, stderr: bytes) -> str:
    """How a process ended: its signal, else the last line of its standard error."""
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    lines = stderr.decode("utf-8", "replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"exit code {code}" + (f": {said[:200]}" if said else "")


def _answer() -> None:
    """The child: as long as there is a call, read it, make it, write (error, result)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    caller = select.poll()
    caller.register(1, 0)
    if caller.poll(0):  # nobody reads the answer: the caller ended before that signal was asked for
        os._exit(1)
    # What libraries print goes to standard error; the answer has the pipe for itself.
    calls, pipe = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer: tuple[PillsnapError | None, Any]
    with pipe:
        while calls.peek(1):
            sys.path[:] = pickle.load(calls)  # which the function is looked up on
            function, args, kwargs = pickle.load(calls)
            try:
                answer = (None, function(*args, **kwargs))
            except PillsnapError as error:
                answer = (error, None)
            pickle.dump(answer, pipe)
            pipe.flush()
    # Threads of a runtime may hang on the way out.
    os._exit(0)


if __name__ == "__main__":
    _answer()
