"""How a run finds its cluster, or starts one."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any

from pillsnap.core.cpus import usable_cpus
from pillsnap.core.errors import ConfigError, first_line

LOCAL = "local"
"""Address of a cluster that is started on this machine, and ended with the run."""

_CONNECT_S = 10

# How a client of HTTP/2 begins, and what each side sends first (RFC 9113, 3.4).
_SETTINGS = b"\x04"
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0" * 5


def connect(address: str) -> None:
    """Make this process the driver of a cluster.

    Args:
        address: host:port of its head, "auto", or LOCAL.

    Raises:
        ConfigError: there is no such cluster.
    """
    import ray

    if address.startswith("ray://"):
        raise ConfigError(
            "the driver has to be a node of the cluster",
            where="--ray",
            got=address,
            expected="host:port of the head, auto, or local",
            hint="run it on a node: ray start --address HOST:PORT joins one",
        )
    local: dict[str, Any] = {}
    if address == LOCAL:
        local = {"num_cpus": usable_cpus(), "include_dashboard": False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # of many kinds, by what is wrong
        raise ConfigError(
            "no Ray cluster can be used there",
            where="--ray",
            got=f"{address}: {first_line(error)}",
            expected="host:port of a cluster's head, auto, or local",
            hint="ray start --head starts one, --ray local takes this machine; where its nodes ask "
            "for a token, set RAY_AUTH_MODE=token, and where they do not, disabled",
        ) from error
    finally:
        if main:  # Ray's would turn a termination into SystemExit inside a test
            signal.signal(signal.SIGTERM, handler)


def _knock(address: str) -> None:
    """Raise OSError where nothing at host:port speaks HTTP/2, as Ray does, which would try for
    minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S) as opened:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            opened.sendall(_HTTP2)
            frame = opened.recv(9)
            if frame[3:4] != _SETTINGS:
                raise OSError("what answers there is no Ray cluster")
