"""`pillsnap report`: the terminal's table of a report that was written earlier."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pillsnap.config.load import find_config, load_config
from pillsnap.core.errors import PillsnapError, first_line
from pillsnap.report.reading import read_bounded
from pillsnap.report.table import render


def main(argv: Sequence[str]) -> int:
    """Print the table; exit code 0 whatever its verdict.

    Raises:
        PillsnapError: there is no such report, or the file is none.
    """
    parser = argparse.ArgumentParser(prog="pillsnap report", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, help="default: the latest of the config")
    parser.add_argument("--config", help="config file (environment: PILLSNAP_CONFIG)")
    given = parser.parse_args(argv)
    path = given.path
    if path is None:
        config = load_config(find_config(given.config, os.environ, Path.cwd()))
        path = config.out_dir / "export_report.json"
    print(*render(_read(path), str(path)), sep="\n")
    return 0


def _read(path: Path) -> dict[str, Any]:
    from pydantic import ValidationError

    from pillsnap.report.models import Report

    try:
        report: dict[str, Any] = json.loads(read_bounded(path))
        Report.model_validate(report)
    except OSError as error:
        raise PillsnapError(
            f"the report cannot be read: {error.strerror}", where=path, hint="run pillsnap gate"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise PillsnapError(
            "this is no report of this version of pillsnap",
            where=f"{path}: {'.'.join(map(str, first['loc']))}",
            got=first["msg"],
            expected="an export_report.json",
        ) from None
    except ValueError as error:
        raise PillsnapError(
            "this is no report", where=path, got=first_line(error), expected="an export_report.json"
        ) from None
    return report
