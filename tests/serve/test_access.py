"""Who is answered: the API key, and without one this machine alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient

from pillsnap.core.errors import ConfigError
from pillsnap.serve.access import read_key, require_access
from pillsnap.serve.refusal import Refusal

KEY = "s3cret-ключ"


def status(
    key: str | None, peer: str | None, *, server: Sequence[Any] | None = None, **headers: str
) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        require_access(key, peer, named, server=server)
    except Refusal as refusal:
        assert "s3cret" not in refusal.message
        return refusal.status
    return 200


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, 401),
        ("", 401),
        ("s3cret", 401),
        ("wrong", 401),
        ("\xff\xfe", 401),
        (KEY.encode().decode("latin-1"), 200),
    ],
)
def test_the_key(given: str | None, expected: int) -> None:
    headers = {} if given is None else {"x_api_key": given}
    assert status(KEY, "203.0.113.9", host="pills.example", **headers) == expected
    assert status(KEY, "127.0.0.1", host="localhost", **headers) == expected
    bearer = {} if given is None else {"authorization": f"bearer  {given} "}
    assert status(KEY, "203.0.113.9", host="pills.example", **bearer) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": "Bearer k"}, 200),
        ({"authorization": "k"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Basic k"}, 401),
        # One of a gateway's beside the client's own.
        ({"authorization": "Bearer other", "x_api_key": "k"}, 200),
        ({"authorization": "Bearer k", "x_api_key": "other"}, 200),
    ],
)
def test_the_key_as_a_bearer_token(headers: dict[str, str], expected: int) -> None:
    assert status("k", "203.0.113.9", **headers) == expected


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:8000"}, 200),
        ("127.8.9.1", {"host": "localhost"}, 200),
        ("::1", {"host": "[::1]:8000"}, 200),
        ("::1", {"host": "[::1]"}, 200),
        ("::ffff:127.0.0.1", {"host": "localhost:8000"}, 200),
        ("203.0.113.9", {"host": "localhost"}, 403),
        ("::ffff:203.0.113.9", {"host": "localhost"}, 403),
        ("10.0.0.1", {"host": "10.0.0.2"}, 403),
        (None, {"host": "localhost"}, 403),
        ("testclient", {"host": "localhost"}, 403),
        # A page whose name was bound to this machine anew.
        ("127.0.0.1", {"host": "evil.example:8000"}, 403),
        ("127.0.0.1", {"host": "localhost.evil.example"}, 403),
        ("127.0.0.1", {}, 403),
        ("127.0.0.1", {"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        ("127.0.0.1", {"host": "localhost", "origin": "https://evil.example"}, 403),
        ("127.0.0.1", {"host": "localhost", "origin": "null"}, 403),
        # A proxy on this machine, before clients from anywhere.
        ("127.0.0.1", {"host": "localhost", "x_forwarded_for": "203.0.113.9"}, 403),
        ("127.0.0.1", {"host": "localhost", "forwarded": "for=203.0.113.9"}, 403),
        ("127.0.0.1", {"host": "localhost", "x_real_ip": "127.0.0.1"}, 403),
        # Addresses as some clients write them.
        ("::1", {"host": "::1"}, 200),
        ("127.0.0.1", {"host": "LOCALHOST:8000"}, 200),
        ("127.0.0.1", {"host": "2001:db8::1"}, 403),
        ("127.0.0.1", {"host": "0.0.0.0:8000"}, 403),
        # A page of elsewhere, of which no Origin need tell.
        ("127.0.0.1", {"host": "localhost", "sec_fetch_site": "cross-site"}, 403),
        ("127.0.0.1", {"host": "localhost", "sec_fetch_site": "same-origin"}, 200),
        ("127.0.0.1", {"host": "localhost", "sec_fetch_site": "none"}, 200),
    ],
)
def test_without_a_key(
    key: str | None, peer: str | None, headers: dict[str, str], expected: int
) -> None:
    assert status(key, peer, **headers) == expected


@pytest.mark.parametrize(
    ("peer", "server", "headers", "expected"),
    [
        (None, ("/run/pills", None), {"host": "localhost"}, 200),
        (None, ("/run/pills", None), {"host": "pills.example"}, 403),
        (None, ("/run/pills", None), {"host": "localhost", "x_forwarded_for": "::1"}, 403),
        (None, ("/run/pills", None), {"host": "localhost", "sec_fetch_site": "cross-site"}, 403),
        # As a server makes it out of X-Forwarded-For.
        ("203.0.113.9", ("/run/pills", None), {"host": "localhost"}, 403),
        (None, ("127.0.0.1", 8000), {"host": "localhost"}, 403),
        (None, None, {"host": "localhost"}, 403),
    ],
)
def test_a_unix_socket_without_a_key(
    peer: str | None, server: Sequence[Any] | None, headers: dict[str, str], expected: int
) -> None:
    assert status(None, peer, server=server, **headers) == expected


def test_a_client_of_a_unix_socket_is_answered(app: Starlette, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = uvicorn.Server(uvicorn.Config(app, uds=path, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
            assert client.get("http://localhost/version").status_code == 200
            assert client.get("http://localhost/version", headers={"via": "x"}).status_code == 403
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    "header",
    [
        *("via", "x-forwarded-host", "x-forwarded-proto", "x-original-forwarded-for", "cdn-loop"),
        *("cf-connecting-ip", "cf-ray", "true-client-ip", "fastly-client-ip", "x-client-ip"),
        *("x-envoy-external-address", "x-azure-clientip", "x-appengine-user-ip", "fly-client-ip"),
        *("x-cluster-client-ip", "tailscale-user-login", "wl-proxy-client-ip", "x-amz-cf-id"),
    ],
)
def test_no_proxy_passes_for_this_machine(header: str) -> None:
    assert status(None, "127.0.0.1", host="localhost", **{header: "anything"}) == 403
    assert status("k", "127.0.0.1", x_api_key="k", **{header: "anything"}) == 200


def test_headers_of_clients_are_no_proxies() -> None:
    usual = ("accept", "user-agent", "x-request-id", "traceparent", "x-amzn-trace-id", "cookie")
    assert status(None, "127.0.0.1", host="localhost", **dict.fromkeys(usual, "x")) == 200


@pytest.mark.parametrize("value", ["k", " k", "k\n", "\tk\r\n"])
def test_white_space_around_the_key_is_not_part_of_it(value: str) -> None:
    assert read_key({"API_KEY": value}) == "k"


@pytest.mark.parametrize(
    ("value", "message"),
    [("", "set and empty"), (" \n", "set and empty"), ("secret\nkey", "no client can send")],
)
def test_a_key_that_would_open_or_close_the_service_is_an_error(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_key({"API_KEY": value})
    assert "secret" not in str(caught.value)


def test_a_key_that_is_not_utf8_is_a_key() -> None:
    key = read_key({"API_KEY": os.fsdecode(b"caf\xe9")})
    assert status(key, "127.0.0.1", x_api_key="caf\xe9") == 200
    assert status(key, "127.0.0.1", x_api_key="cafe") == 401


@pytest.mark.parametrize(
    ("method", "route"),
    [("GET", "/version"), ("POST", "/predict"), ("POST", "/reload"), ("GET", "/metrics")],
)
def test_every_route_but_health_asks(
    keyed: TestClient, remote: TestClient, method: str, route: str
) -> None:
    refused = keyed.request(method, route)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert keyed.request(method, route, headers={"X-API-Key": "wrong"}).status_code == 401
    allowed = keyed.request(method, route, headers={"X-API-Key": "right"})
    assert allowed.status_code == (200 if method == "GET" else 415 if route == "/predict" else 422)
    assert remote.request(method, route).status_code == 403
    assert keyed.get("/health").status_code == remote.get("/health").status_code == 200


def test_a_slash_at_the_end_is_no_other_route(keyed: TestClient, photo: bytes) -> None:
    answer = keyed.get("/health/", follow_redirects=False)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert keyed.get("/version/", follow_redirects=False).status_code == 401
    headers = {"content-type": "image/png", "authorization": "Bearer right"}
    assert keyed.post("/predict/", content=photo, headers=headers).status_code == 200
    counted = keyed.get("/metrics", headers=headers).text
    assert 'route="/predict",status="200"' in counted
    assert 'route="/predict/"' not in counted


@pytest.mark.parametrize("route", ["/docs", "/redoc", "/openapi.json", "/nothing"])
def test_nothing_else_is_there(served: TestClient, route: str) -> None:
    answer = served.get(route)
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no such route"})


def test_other_methods_are_refused(served: TestClient) -> None:
    assert served.get("/predict").status_code == 405
    assert served.delete("/reload").status_code == 405
