"""A real service in a process of its own, on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_S = 120


@contextmanager
def running(config: Path, log: Path, **environ: str) -> Iterator[httpx.Client]:
    """`uvicorn pillsnap.serve:app` with a config, until the block ends; a client of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = (sys.executable, "-m", "uvicorn", "pillsnap.serve:app", "--port", str(port))
    keyless = {name: value for name, value in os.environ.items() if name != "API_KEY"}
    env = {**keyless, "PILLSNAP_CONFIG": str(config), **environ}
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _wait(client, server, log)
                yield client
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the service did not start:\n{log.read_text()}")
