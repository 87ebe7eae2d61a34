"""`pillsnap gate`: pytest over the packaged item alone, in any folder with a configuration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pytest

from pillsnap.config.cells import MODES
from pillsnap.core.errors import ConfigError
from pillsnap.plugin.collecting import PACKAGED_ITEM
from pillsnap.plugin.options import asks_for_gate

# The current folder is the project, its conftest.py the one that is loaded, and its settings for
# tests of its own neither rename the item nor ask for fixtures that it has not.
_HERE = ("-p", "pillsnap.plugin", "--pyargs", "--rootdir=.", "--confcutdir=.")
_OWN = ("-o", "python_functions=test_", "-o", "usefixtures=")

# pytest would look for tests and its ini file in a path that stands by itself.
_PATHS = ("config", "reference", "save-reference", "against")


def main(argv: Sequence[str]) -> int:
    """Options and exit codes are pytest's; without a gate mode in -m it is smoke."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-m", default="")
    for name in _PATHS:
        parser.add_argument(f"--{name}", dest=name)
    try:
        given, others = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:  # an option without its value
        return _refuse(error)
    markers = given.m or "smoke"
    if not asks_for_gate(markers):
        return _refuse(
            ConfigError(
                "no item of the gate has these marks",
                where="-m",
                got=markers,
                expected=f"one of {', '.join(MODES)}, or several with or",
            )
        )
    paths = [f"--{name}={path}" for name in _PATHS if (path := getattr(given, name)) is not None]
    # The item stands first: an option whose value was forgotten at the end is not to take it.
    return int(pytest.main([*_HERE, *_OWN, PACKAGED_ITEM, "-m", markers, *paths, *others]))


def _refuse(error: Exception) -> int:
    print(f"ERROR: {error}", file=sys.stderr)
    return int(pytest.ExitCode.USAGE_ERROR)
