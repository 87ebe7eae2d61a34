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
            hint="ray start --head starts one; --ray local takes this machine",
        ) from error
    finally:
        if main:  # Ray's would turn a termination into SystemExit inside a test
            signal.signal(signal.SIGTERM, handler)


def _knock(address: str) -> None:
    """Raise OSError where nothing listens at host:port, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
