"""Clients that hang up, and bodies that nobody will read."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")


class CloseUnread:
    """Closes the connection after an answer that came before the body had been read, for which
    uvicorn would read on to the body's end, however far that is. An ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

        async def received() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def sent(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, received, sent)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work for a request, whose body has been read, comes to; where the client has hung up
    it is called off, and ClientDisconnect raised."""
    from starlette.requests import ClientDisconnect

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def outcome(work: Future[T]) -> T:
    """What a thread's work comes to. Called off, it is taken back, or its end is waited for if it
    has begun: until then it holds what it works on."""
    try:
        return await asyncio.wrap_future(work)
    except asyncio.CancelledError:
        if not work.done():
            await asyncio.wait((asyncio.wrap_future(work),))
        raise
