"""Engines and tasks that a project adds, on their way to nodes that do not have its code."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from typing import Any

from pillsnap.compare.tasks import Task
from pillsnap.compare.tasks import register as register_task
from pillsnap.core.errors import ConfigError, first_line
from pillsnap.engines import Entry
from pillsnap.engines import register as register_engine


def pickle_plugins(engines: Iterable[Entry], tasks: Iterable[Task]) -> bytes:
    """Engines and tasks, pickled. Code of no installed package, such as that of a conftest.py,
    travels by value.

    Raises:
        ConfigError: one cannot be pickled.
    """
    from ray import cloudpickle

    own = [module for name, module in list(sys.modules.items()) if _is_own(name, module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        found: bytes = cloudpickle.dumps((list(engines), list(tasks)))
        return found
    except Exception as error:  # whatever a project's objects raise
        raise ConfigError(
            "an engine or task of this project cannot be sent to other nodes",
            where="--ray",
            got=first_line(error),
            expected="functions that hold nothing but what pickles",
        ) from error
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def add_plugins(pickled: bytes) -> None:
    """Register the driver's engines and tasks in this process."""
    engines, tasks = pickle.loads(pickled)  # of our own driver
    for engine in engines:
        register_engine(engine)
    for task in tasks:
        register_task(task)


def _is_own(name: str, module: Any) -> bool:
    """Whether a module is neither pillsnap's, nor Python's, nor of an installed package."""
    file = getattr(module, "__file__", None)
    if not file or name.partition(".")[0] in ("pillsnap", "__main__", "__mp_main__"):
        return False
    # By what it is imported by: the registry of cloudpickle goes by that name.
    imported = getattr(module, "__name__", None) == name
    installed = file.startswith((sys.prefix, sys.base_prefix)) or "site-packages" in file
    return imported and not installed
