"""`app`, the service as servers import it; a mistake in the configuration ends the process with its
message, not with a traceback."""

from __future__ import annotations

from pillsnap.core.errors import PillsnapError
from pillsnap.serve.late import create_from_environment

try:
    app = create_from_environment()
except PillsnapError as error:
    raise SystemExit(f"error: {error}") from None
