"""`pillsnap_report`, the function by which a project's conftest.py takes a report further.

pytest takes for hooks only what is named pytest_…, so its plugins are asked for it here.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from pillsnap.core.errors import first_line
from pillsnap.core.printable import printable

HOOK = "pillsnap_report"


def hand_on(report: dict[str, Any], path: Path, config: pytest.Config) -> list[str]:
    """Call pillsnap_report(report, path, config) of every conftest.py and plugin that has one.

    Each takes as many of the three as it names: the report as plain builtins, where it lies, and
    pytest's config. What one raises changes nothing: there is a line that says so for each.
    """
    given = {"report": report, "path": path, "config": config}
    lines = []
    for where, plugin in config.pluginmanager.list_name_plugin():  # a conftest.py's is its path
        hook = getattr(plugin, HOOK, None)
        if hook is None:
            continue
        try:
            names = inspect.signature(hook).parameters
            hook(**{name: value for name, value in given.items() if name in names})
        # Of any kind: sys.exit, pytest.fail, and Ctrl-C where its server hangs.
        except BaseException as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            lines.append(printable(f"warning: {HOOK} of {where} failed: {why}"))
    return lines
