"""Models and clients that never come to an end: the service and its SIGTERM do."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from pillsnap.config.load import load_config
from pillsnap.config.settings import Config
from pillsnap.core.errors import EngineError
from pillsnap.serve import late
from pillsnap.serve.opening import open_proven
from tests.e2e.demo_project import DemoProject
from tests.serve.looping import write_looping
from tests.serve.running import END_S, started, wait_until_served

IMAGE = {"content-type": "image/png"}
ALWAYS, ON_WHITE = -100.0, 0.9


@pytest.fixture
def looping(passed: DemoProject) -> Iterator[Path]:
    """A classifier among the exports that hangs on every image."""
    path = passed.out_dir / "looping.onnx"
    write_looping(passed.out_dir / "latest_classification.onnx", path, above=ALWAYS)
    yield path
    path.unlink()


def children(server: subprocess.Popen[bytes]) -> list[int]:
    """Processes that a process has started."""
    tasks = Path(f"/proc/{server.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_model_that_does_not_end_is_ended(config: Config, looping: Path) -> None:
    short = replace(config, serve=replace(config.serve, load_timeout_s=3.0))
    with pytest.raises(EngineError, match="no answer within 3 s") as caught:
        open_proven(short, "classification", looping)
    assert "raise serve.load_timeout_s" in str(caught.value)


def test_what_was_tried_out_is_what_is_loaded(config: Config, looping: Path) -> None:
    with pytest.raises(EngineError, match="changed while it was loaded"):
        open_proven(config, "classification", looping, "0" * 64)


def test_sigterm_ends_the_service_whatever_models_and_clients_do(
    passed: DemoProject, looping: Path, tmp_path: Path
) -> None:
    on_white = passed.out_dir / "on_white.onnx"
    write_looping(passed.out_dir / "latest_classification.onnx", on_white, above=ON_WHITE)
    config = passed.path / "ending.yaml"
    settings = {"provider": "cpu", "allow_unverified": True}
    config.write_text(yaml.safe_dump({**passed.settings, "serve": settings}))
    white = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(white, "PNG")
    options = ("--timeout-graceful-shutdown", "1")
    with started(config, tmp_path / "log", *options) as (server, port):
        url = f"http://127.0.0.1:{port}"

        def post(route: str, **body: object) -> None:
            with contextlib.suppress(httpx.TransportError):
                httpx.post(url + route, timeout=600, **body)  # type: ignore[arg-type]

        with httpx.Client(base_url=url, timeout=60) as client:
            wait_until_served(client, server, tmp_path / "log")
            body = {"model_path": "on_white.onnx", "allow_unverified": True}
            answer = client.post("/reload", json=body)
            assert answer.status_code == 200, answer.text
            hanging = {"model_path": "looping.onnx", "allow_unverified": True}
            threads = [
                threading.Thread(target=post, args=["/reload"], kwargs={"json": hanging}),
                threading.Thread(
                    target=post,
                    args=["/predict"],
                    kwargs={"content": white.getvalue(), "headers": IMAGE},
                ),
            ]
            for thread in threads:
                thread.start()
            wait_for(lambda: children(server), "the model is tried out")
            wait_for(
                lambda: "pillsnap_waiting_requests 1" in client.get("/metrics").text,
                "the photo is in its batch",
            )
            # A third client holds back the rest of its body.
            stalled = socket.create_connection(("127.0.0.1", port))
            stalled.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\nxyz"
            )
        processes = children(server)  # one tries the model, others decode photos
        server.terminate()
        assert server.wait(END_S) == -signal.SIGTERM
        stalled.close()
        for thread in threads:
            thread.join(END_S)
    on_white.unlink()
    wait_for(lambda: not any(map(is_running, processes)), "its processes end with it")


def test_signals_end_a_start_whatever_handlers_the_server_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers have some that set a flag for a loop which does not run yet."""
    (tmp_path / "config.yaml").write_text("paths: {exp_dir: x}")
    ends: list[bool] = []

    async def app(*_: object) -> None: ...

    def working(*_: object) -> Callable[..., Any]:
        ends.append(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        return app

    monkeypatch.setattr(late, "choose_starts", working)
    monkeypatch.setattr(late, "create_app", working)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        service = late.LateService(load_config(tmp_path / "config.yaml", {}), {})
        asyncio.run(service({}, None, None))  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ends == [True, True]


def test_sigterm_ends_a_service_whose_model_never_starts(
    passed: DemoProject, looping: Path, tmp_path: Path
) -> None:
    config = passed.path / "starting.yaml"
    config.write_text(yaml.safe_dump({**passed.settings, "serve": {"provider": "cpu"}}))
    environ = {"CLASSIFICATION_MODEL_PATH": str(looping)}
    with started(config, tmp_path / "log", **environ) as (server, _):
        wait_for(lambda: children(server), "the model is tried out")
        (child,) = children(server)
        server.terminate()
        assert server.wait(END_S) == -signal.SIGTERM
    wait_for(lambda: not is_running(child), "the process that tries a model ends with its parent")
