"""Commands of Python in forks of a process that has imported what they need.

To import torch, timm and ultralytics takes four seconds of a core, and a session of the gate often
less. What a command does is its own: folder, environment, output, exit code. What a library reads
of the environment while it is imported is the first process's. The workers of a session of pytest
are forks too: stand_in.py is in the place of each, which xdist takes for its worker.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tests.stand_in import ask

# Not what pytest rewrites the assertions of: plugins.
LIGHT = (
    *("pytest", "execnet", "pillsnap.gate.finish", "pillsnap.gate.ledger"),
    *("pillsnap.report.models", "pillsnap.report.page", "pycocotools.coco", "pycocotools.mask"),
    *("filelock", "jinja2", "numpy.ma", "numpy.random", "packaging.requirements", "scipy.special"),
)
HEAVY = (*LIGHT, "scipy.stats", "torch", "torchvision", "timm", "ultralytics.nn.tasks", "onnx")

_STAND_IN = Path(__file__).with_name("stand_in.py")


@cache
def forks(*modules: str) -> Forks:
    """The process of these modules, one for each process of the tests."""
    return Forks(modules)


class Forks:
    """A process that runs modules of Python, each in a fork of itself."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._environ = _of_python()
        self._address = f"pillsnap-forks-{os.getpid()}-{len(modules)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(f"\0{self._address}")
            listener.listen()
            number = listener.fileno()
            command = [sys.executable, "-m", "tests.forked", self._address, str(number)]
            # It ends with its standard input, which ends with this process.
            self._process = subprocess.Popen(
                [*command, *modules],
                cwd=_STAND_IN.parents[1],
                stdin=subprocess.PIPE,
                pass_fds=[number],
                start_new_session=True,
            )

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
            paths = [Path(folder, name) for name in ("none", "out", "err")]
            with ExitStack() as opened:
                files = [opened.enter_context(path.open("w+")).fileno() for path in paths]
                code = ask(self._address, ["-m", *words], str(cwd), files, timeout)
            _, *texts = [path.read_text(errors="surrogateescape") for path in paths]
        return subprocess.CompletedProcess(list(words), code, *texts)


def _of_python() -> dict[str, str]:
    """What Python and the loader of libraries read when a process starts, and never again; less the
    folder that cv2 adds where it is imported."""
    found = {name: text for name, text in os.environ.items() if name.startswith(("PYTHON", "LD_"))}
    folders = found.pop("LD_LIBRARY_PATH", "").split(":")
    found["LD_LIBRARY_PATH"] = ":".join(folder for folder in folders if "/cv2/" not in folder)
    return found


def _serve(address: str, listener: socket.socket, modules: Sequence[str]) -> None:
    if "torch" in modules:
        from pillsnap.engines.torch.yolo import quiet_ultralytics

        quiet_ultralytics()
    for name in modules:
        import_module(name)
    # Another interpreter would not have found these.
    sys.path.remove(str(_STAND_IN.parents[1]))
    del sys.modules["tests"], sys.modules["tests.stand_in"]
    from execnet import gateway_io

    stand_in = [sys.executable, "-I", "-S", str(_STAND_IN), address, gateway_io.popen_bootstrapline]
    gateway_io.popen_args = lambda spec: stand_in  # type: ignore[assignment]
    gc.freeze()  # what is never looked at again is never copied
    children: dict[Any, int] = {}  # by who waits for them
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fd == 0:
                return
            if key.fileobj is listener:
                client, _ = listener.accept()
                task, files, _, _ = socket.recv_fds(client, 1 << 20, 3)
                child = os.fork()
                if child == 0:
                    _become(**json.loads(task), files=files)
                for number in files:
                    os.close(number)
                children[client] = child
                waiting.register(client, selectors.EVENT_READ)
                waiting.register(os.pidfd_open(child), selectors.EVENT_READ, client)
            elif key.fileobj in children:  # nobody waits for it any longer
                waiting.unregister(key.fileobj)
                with suppress(ProcessLookupError):
                    os.killpg(children[key.fileobj], signal.SIGKILL)
            elif key.data is not None:
                waiting.unregister(key.fd)
                os.close(key.fd)
                with key.data as client:
                    code = os.waitstatus_to_exitcode(os.waitpid(children.pop(client), 0)[1])
                    if client in waiting.get_map():
                        waiting.unregister(client)
                    with suppress(BrokenPipeError):
                        client.send(str(code).encode())


def _become(words: list[str], cwd: str, environ: dict[str, str], files: list[int]) -> NoReturn:
    os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin = os.fdopen(0)
    kind, name, *_ = words
    sys.argv = words[1:] if kind == "-m" else ["-c"]
    sys.path.insert(0, cwd if kind == "-m" else "")
    if kind == "-m":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        exec(name, {"__name__": "__main__"})
    sys.exit()


if __name__ == "__main__":
    asked = socket.socket(fileno=int(sys.argv[2]))
    asked.set_inheritable(False)
    _serve(sys.argv[1], asked, sys.argv[3:])
