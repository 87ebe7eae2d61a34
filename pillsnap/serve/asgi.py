"""`app`, the service as servers import it: what PILLSNAP_CONFIG, else config.yaml in the current
folder, describes. A mistake there ends the process with its message, not with a traceback."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pillsnap.config.load import find_config, load_config
from pillsnap.core.errors import PillsnapError
from pillsnap.serve.late import LateService

try:
    config = load_config(find_config(None, os.environ, Path.cwd()))
    # Which models are taken, and why.
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("pillsnap").setLevel(logging.INFO)
    app = LateService(config, os.environ)
except PillsnapError as error:
    raise SystemExit(f"error: {error}") from None
