"""`pillsnap`: what a repository needs of it, as one command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from pillsnap.core.errors import PillsnapError
from pillsnap.core.packages import package_version

# Name -> (module:function of argv, what it does). Each is imported when it is called.
COMMANDS = {
    "init": (
        "pillsnap.gate.init:main",
        "write a config.yaml for the models and data that are there",
    ),
    "gate": ("pillsnap.plugin.packaged:main", "export and verify: pytest, with its options"),
    "report": ("pillsnap.report.show:main", "the table of a report"),
    "compare": ("pillsnap.report.against.command:main", "a report against an earlier one"),
    "infer": ("pillsnap.infer.__main__:run", "run the models over images"),
    "pipeline": ("pillsnap.infer.pack:main", "a folder with the pipeline in one file"),
    "serve": ("pillsnap.serve.__main__:main", "the service: uvicorn, with its options"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command; 2 for a wrong one, and 130, of a gate 2, where it was
    interrupted."""
    given = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="pillsnap",
        description="A CI gate for model export.",
        epilog="pillsnap COMMAND --help says more.",
    )
    version = f"pillsnap {package_version('pillsnap')}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, help_) in COMMANDS.items():
        commands.add_parser(name, help=help_, add_help=False)
    command = parser.parse_args(given[:1]).command
    place, _ = COMMANDS[command]
    module, _, function = place.partition(":")
    try:
        code: int = getattr(import_module(module), function)(given[1:])
    except PillsnapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the command itself sees to it
        print("interrupted", file=sys.stderr)
        return 2 if command == "gate" else 130
    return code
