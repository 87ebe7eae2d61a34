"""When `--ray` is refused. Knows nothing of pytest, and does not import Ray."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from pillsnap.core.errors import ConfigError


def require_ray(option: argparse.Namespace) -> None:
    """Refuse --ray where it cannot be, before anything is run.

    Raises:
        ConfigError: Ray is not installed, or another option excludes it.
    """
    if option.ray is None:
        return
    if getattr(option, "numprocesses", None) or getattr(option, "tx", None):
        raise ConfigError(
            "workers of xdist would each run their shards on the whole cluster",
            where="--ray",
            got="-n beside it",
            expected="one of them: -n for the processes of this machine, --ray for a cluster",
            hint="leave -n out; --ray local uses the CPUs of this machine",
        )
    if option.save_reference is not None:
        raise ConfigError(
            "a golden bundle is written by the process that runs a shard",
            where="--ray",
            got=f"--save-reference {option.save_reference}",
            hint="write it on one machine: leave --ray out",
        )
    if find_spec("ray") is None:
        raise ConfigError("Ray is not installed", where="--ray", hint="pip install 'pillsnap[ray]'")
