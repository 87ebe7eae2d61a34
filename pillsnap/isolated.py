"""A function run in a process of its own: one that hangs or crashes can be ended there."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from pillsnap.errors import PillsnapError

P = ParamSpec("P")
R = TypeVar("R")

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
    request = pickle.dumps((sys.path, pickle.dumps((function, args, kwargs))))
    command, pipe = [sys.executable, "-m", __name__], subprocess.PIPE
    try:
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
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


def _ending(code: int, stderr: bytes) -> str:
    """How a process ended: its signal, else the last line of its standard error."""
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    lines = stderr.decode("utf-8", "replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"exit code {code}" + (f": {said[:200]}" if said else "")


def _answer() -> None:
    """The child: read the call, make it, write (error, result)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # What libraries print goes to standard error; the answer has the pipe for itself.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.path[:], call = pickle.load(sys.stdin.buffer)
    function, args, kwargs = pickle.loads(call)
    answer: tuple[PillsnapError | None, Any]
    try:
        answer = (None, function(*args, **kwargs))
    except PillsnapError as error:
        answer = (error, None)
    with pipe:
        pickle.dump(answer, pipe)
        pipe.flush()
    # Threads of a runtime may hang on the way out.
    os._exit(0)


if __name__ == "__main__":
    _answer()
