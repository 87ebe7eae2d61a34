"""`pillsnap serve`: uvicorn over the service, with uvicorn's own options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pillsnap.config.load import find_config
from pillsnap.core.errors import PillsnapError
from pillsnap.serve.service import require_libraries

# Without it a client that never ends its request would hold the service at its end.
_USUAL = ("--timeout-graceful-shutdown", "30")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; --config names the configuration, all other options are uvicorn's.

    Raises:
        PillsnapError: a library of the extra is missing, or there is no such configuration.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    given, options = parser.parse_known_args(argv)
    if given.config is not None:
        os.environ["PILLSNAP_CONFIG"] = str(find_config(given.config, {}, Path.cwd()))
    require_libraries("uvicorn")
    from uvicorn.main import main as uvicorn

    uvicorn.main(["pillsnap.serve:app", *_USUAL, *options], prog_name="pillsnap serve")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PillsnapError as error:
        sys.exit(f"error: {error}")
