"""Files of a folder of reports, which may hold anything under their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable
from pillsnap.core.regularfiles import open_regular

log = open_log(__name__)

# A report of fifty cells has 1 MiB. Parsed, JSON takes up to twenty times its size.
MAX_BYTES = 16 * 2**20


def read_report_files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every regular .json file of a folder and its content, by name. Whatever else has such a name
    is logged: it is neither waited for nor read beyond MAX_BYTES.

    Args:
        folder: a missing one holds no report.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s holds no reports: %s", printable(folder), error.strerror)
        return
    for path in paths:
        try:
            yield path, _read(path)
        except (OSError, ValueError) as error:
            log.warning("%s is no report: %s", printable(path), printable(error))


def _read(path: Path) -> bytes:
    """The bytes of a regular file: OSError for anything else, ValueError for a larger one."""
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return data
