"""The service as servers import it: its models are loaded in the process that serves."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pillsnap.config.load import read_environment
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.logrecords import open_log
from pillsnap.serve.access import read_key
from pillsnap.serve.refusal import public_message
from pillsnap.serve.service import create_app, require_libraries
from pillsnap.serve.starting import choose_starts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = open_log(__name__)


class LateService:
    """An ASGI app. What may be wrong with configuration and models is found when it is made; they
    are loaded when it is first called, as servers may fork in between (gunicorn --preload), which
    leaves the threads of a runtime behind. Arguments and errors are create_app's."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        require_libraries()
        self._config, self._environ = config, environ
        self._app: ASGIApp | None = None
        self._pid = os.getpid()
        variables = read_environment(config.source, environ)
        read_key(variables)
        with ended_by_signals():
            self._starts = choose_starts(config, variables)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            # A fork, which may be days younger, chooses as a process that starts now does.
            starts = self._starts if os.getpid() == self._pid else None
            try:
                with ended_by_signals():
                    self._app = create_app(self._config, self._environ, starts)
            except PillsnapError as error:
                await _refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGINT end the process at once, whatever it computes.

    Servers have handlers by then that set a flag for their loop, which does not run yet.
    """
    if threading.current_thread() is not threading.main_thread():  # who may set no handler
        yield
        return
    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, signal.SIG_DFL) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


async def _refuse(error: PillsnapError, scope: Scope, receive: Receive, send: Send) -> None:
    """End the start of a server that has one; else say so to who asks."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"error: {error}"})
        return
    from starlette.responses import JSONResponse

    log.error("%s", error)
    await JSONResponse({"error": public_message(error)}, 503)(scope, receive, send)
