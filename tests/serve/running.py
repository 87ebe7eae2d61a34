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


# Most seconds from SIGTERM to the end, whatever clients do; README says 10 beside uvicorn's option.
END_S = 30


@contextmanager
def running(
    config: Path, log: Path, *, script: str | None = None, **environ: str
) -> Iterator[httpx.Client]:
    """`pillsnap serve` with a config, or a Python script that is given a port, until the block
    ends; a client of it."""
    with (
        started(config, log, script=script, **environ) as (server, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        wait_until_served(client, server, log)
        yield client


@contextmanager
def started(
    config: Path, log: Path, *options: str, script: str | None = None, **environ: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process of a service that starts, ended by SIGTERM when the block ends; its port.

    Args:
        options: for `pillsnap serve`.
        script: see running.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = ("-m", "pillsnap.serve", f"--config={config}", "--port")
    command = (
        sys.executable,
        *(program if script is None else ("-c", script)),
        str(port),
        *options,
    )
    keyless = {name: value for name, value in os.environ.items() if name != "API_KEY"}
    if script is not None:
        keyless["PILLSNAP_CONFIG"] = str(config)
    env = {**keyless, **environ}
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env)
        try:
            yield server, port
        finally:
            server.terminate()
            try:
                server.wait(END_S)
            finally:
                server.kill()


def wait_until_served(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the service did not start:\n{log.read_text()}")
