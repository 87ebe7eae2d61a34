"""Commands of Python in forks of a process that has imported what they need.

To import torch, timm and ultralytics takes four seconds of a core, and a session of the gate often
less. What a command does is its own: folder, environment, output, exit code. What a library reads
of the environment while it is imported is the first process's.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NoReturn

# Not what pytest rewrites the assertions of: plugins.
LIGHT = ("pytest", "pillsnap.gate.finish", "pillsnap.gate.ledger", "pycocotools.mask", "jinja2")
HEAVY = (*LIGHT, "scipy.stats", "torch", "torchvision", "timm", "ultralytics.nn.tasks", "onnx")


@cache
def forks(*modules: str) -> Forks:
    """The process of these modules, one for each process of the tests."""
    return Forks(modules)


class Forks:
    """A process that runs modules of Python, each in a fork of itself."""

    def __init__(self, modules: Sequence[str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-P", __file__, *modules]
        self._process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]

        self._environ = _of_python()

    def run(
        self, words: Sequence[str], cwd: Path, timeout: float = 600, *, fork: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """What `python -m *words` does in that folder, and in today's environment; without `fork`,
        or where that concerns Python itself, in an interpreter of its own."""
        if not fork or _of_python() != self._environ:
            command = [sys.executable, "-m", *words]
            options = {"capture_output": True, "text": True, "check": False, "timeout": timeout}
            return subprocess.run(command, cwd=cwd, **options)  # type: ignore[call-overload, no-any-return]
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            task = {
                "words": words,
                "cwd": str(cwd),
                "environ": dict(os.environ),
                "files": [str(out), str(err)],
                "timeout": timeout,
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            texts = [path.read_text(errors="surrogateescape") for path in (out, err)]
        return subprocess.CompletedProcess(list(words), code, *texts)


def _of_python() -> dict[str, str]:
    """What Python and the loader of libraries read when a process starts, and never again; less the
    folder that cv2 adds where it is imported."""
    found = {name: text for name, text in os.environ.items() if name.startswith(("PYTHON", "LD_"))}
    folders = found.pop("LD_LIBRARY_PATH", "").split(":")
    found["LD_LIBRARY_PATH"] = ":".join(folder for folder in folders if "/cv2/" not in folder)
    return found


def _serve(modules: Sequence[str]) -> None:
    if "torch" in modules:
        from pillsnap.engines.torch.yolo import quiet_ultralytics

        quiet_ultralytics()
    for name in modules:
        import_module(name)
    gc.freeze()  # what is never looked at again is never copied
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(**task)
        print(_wait(child, task["timeout"]), flush=True)


def _become(
    words: list[str], cwd: str, environ: dict[str, str], files: list[str], timeout: float
) -> NoReturn:
    os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    for number, path in enumerate([os.devnull, *files]):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.path.insert(0, cwd)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit()


def _wait(child: int, timeout: float) -> int:
    ended = os.pidfd_open(child)
    if not select.select([ended], [], [], timeout)[0]:
        os.killpg(child, signal.SIGKILL)
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    _serve(sys.argv[1:])
