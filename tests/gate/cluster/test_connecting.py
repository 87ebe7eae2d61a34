"""Addresses at which something else than Ray answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pillsnap.core.errors import ConfigError
from pillsnap.gate.cluster.connecting import connect


@pytest.fixture
def web_server() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_what_is_no_cluster_is_told_at_once(web_server: int) -> None:
    with pytest.raises(ConfigError, match="no Ray cluster can be used there") as refused:
        connect(f"127.0.0.1:{web_server}")
    assert "what answers there is no Ray cluster" in str(refused.value)
    assert "RAY_AUTH_MODE" in str(refused.value)
