"""The service as servers import it: its models are loaded in the process that serves."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pillsnap.config.load import find_config, load_config, read_environment
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.logrecords import open_log
from pillsnap.serve.access import read_key
from pillsnap.serve.refusal import public_message
from pillsnap.serve.service import create_app, require_libraries
from pillsnap.serve.signals import ended_by_signals
from pillsnap.serve.starting import choose_starts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = open_log(__name__)


def create_from_environment() -> LateService:
    """The service as PILLSNAP_CONFIG, else config.yaml in the current folder, describes it.

    Raises:
        PillsnapError: the configuration is wrong, or a model cannot be loaded.
    """
    config = load_config(find_config(None, os.environ, Path.cwd()))
    # Which models are taken, and why.
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("pillsnap").setLevel(logging.INFO)
    return LateService(config, os.environ)


class LateService:
    """An ASGI app. What may be wrong with configuration and models is found when it is made; they
    are loaded when it is first called, as servers may fork in between (gunicorn --preload), which
    leaves the threads of a runtime behind.

    Args:
        environ: of the process, over .env.

    Raises:
        PillsnapError: see create_app.
    """

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
            try:
                self._app = self._load()
            except PillsnapError as error:
                await _refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _load(self) -> ASGIApp:
        # A process that was forked, and may be days younger, chooses as one that starts now does.
        forked = os.getpid() != self._pid
        with ended_by_signals():
            return create_app(self._config, self._environ, None if forked else self._starts)


async def _refuse(error: PillsnapError, scope: Scope, receive: Receive, send: Send) -> None:
    """End the start of a server that has one; else say so to who asks."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"error: {error}"})
        return
    from starlette.responses import JSONResponse

    log.error("%s", error)
    await JSONResponse({"error": public_message(error)}, 503)(scope, receive, send)
