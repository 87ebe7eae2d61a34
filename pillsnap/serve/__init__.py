"""The service: `uvicorn pillsnap.serve:app`. Needs the extra `pillsnap[serve]`.

One process holds one set of models: started with --workers, a reload would reach one of them.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`app`, made when it is first asked for: it chooses and tries the models.

    A mistake in the configuration ends the process with its message, not with a traceback.
    """
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pillsnap.core.errors import PillsnapError
    from pillsnap.serve.late import create_from_environment

    try:
        # Kept, so that a second look at the name finds the same service.
        return globals().setdefault("app", create_from_environment())
    except PillsnapError as error:
        raise SystemExit(f"error: {error}") from None
