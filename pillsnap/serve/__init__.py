"""The service: `uvicorn pillsnap.serve:app`. Needs the extra `pillsnap[serve]`.

One process holds one set of models: started with --workers, a reload would reach one of them.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`app`, made when it is first asked for: it chooses and tries the models."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pillsnap.serve.asgi import app

    return app
