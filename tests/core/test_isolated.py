"""Calls in a process of their own: values, errors, hangs and crashes come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pillsnap.core.errors import EngineError
from pillsnap.core.isolated import IsolatedError, Standby, run_isolated


def double(value: int) -> int:
    print("libraries print on standard output")
    return 2 * value


def refuse() -> None:
    raise EngineError("no", where="here")


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail() -> None:
    raise RuntimeError("said why\n")


def test_a_value_comes_back_beside_what_is_printed() -> None:
    assert run_isolated(60, double, 21) == 42


def test_an_error_of_ours_comes_back_whole() -> None:
    with pytest.raises(EngineError) as caught:
        run_isolated(60, refuse)
    assert (caught.value.what, str(caught.value)) == ("no", "no\n  where:    here")


@pytest.mark.parametrize(("function", "said"), [(crash, "SIGSEGV"), (fail, "said why")])
def test_a_crash_says_how(function: object, said: str) -> None:
    with pytest.raises(IsolatedError, match=said):
        run_isolated(60, function)  # type: ignore[arg-type]


def test_it_does_not_outlive_a_caller_that_ends_at_once() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pillsnap.core.isolated"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writing) as process:
        os.close(writing)
        try:
            assert process.wait(60) == 1
        finally:
            process.kill()


def test_a_hang_is_ended() -> None:
    with pytest.raises(IsolatedError, match=r"no answer within 0\.5 s"):
        run_isolated(0.5, time.sleep, 600)


def test_a_process_that_stands_by_answers_call_after_call_and_is_replaced_when_it_must_be() -> None:
    standby = Standby()
    first = standby.call(60, os.getpid)
    assert standby.call(60, os.getpid) == first != os.getpid()
    assert standby.call(60, double, 21) == 42
    with pytest.raises(EngineError, match="here"):
        standby.call(60, refuse)
    with pytest.raises(IsolatedError, match="SIGSEGV"):
        standby.call(60, crash)
    with pytest.raises(IsolatedError, match=r"no answer within 0\.5 s"):
        standby.call(0.5, time.sleep, 600)
    other = standby.call(60, os.getpid)
    assert other != first
    standby.close()
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)
