"""Files of a folder of reports, which may hold anything under their names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pillsnap.core.logrecords import open_log
from pillsnap.core.printable import printable
from pillsnap.core.regularfiles import open_regular

log = open_log(__name__)

# A report of fifty cells has 1 MiB. Parsed, JSON takes up to twenty times its size.
MAX_BYTES = 16 * 2**20


def list_reports(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change, in ns, of every regular .json file of a folder, in the order of
    their names; none in a missing one. Whatever else has such a name is logged."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.endswith(".json"):
                    continue
                try:
                    about = entry.stat()
                except OSError as error:
                    log.warning("%s is no report: %s", printable(entry.path), error.strerror)
                    continue
                if stat.S_ISREG(about.st_mode):
                    found[entry.name] = (about.st_size, about.st_mtime_ns)
                else:
                    log.warning("%s is no report: not a regular file", printable(entry.path))
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("%s holds no reports: %s", printable(folder), error.strerror)
    return dict(sorted(found.items()))


def read_bounded(path: Path, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file: OSError for anything else, ValueError for a larger one."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"more than {most} bytes")
    return data
