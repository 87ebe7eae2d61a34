"""The routes of the service."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pillsnap.config import Config
from pillsnap.configfile import find_config, load_config, read_environment
from pillsnap.errors import PillsnapError
from pillsnap.logrecords import open_log
from pillsnap.pipeline import STAGES_OF, Result
from pillsnap.serve.access import read_key, require_access
from pillsnap.serve.loading import ModelManager
from pillsnap.serve.metrics import Metrics
from pillsnap.serve.refusal import Refusal, public_message
from pillsnap.serve.signals import ended_by_signals
from pillsnap.serve.threads import start_thread
from pillsnap.serve.uploads import Upload, decode_images, read_images, read_json_object
from pillsnap.versions import package_version

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

log = open_log(__name__)

# Seconds that a batch which still runs is waited for at the end.
CLOSE_S = 5

# Keys of /reload's body, and the stage that each is about; "" is the file's own.
_RELOAD = {
    "model_path": "",
    "classification_model_path": "classification",
    "detection_model_path": "detection",
}


def create_app_from_environment() -> FastAPI:
    """The service as PILLSNAP_CONFIG, else config.yaml in the current folder, describes it.

    Raises:
        PillsnapError: the configuration is wrong, or a model cannot be loaded.
    """
    config = load_config(find_config(None, os.environ, Path.cwd()))
    # Which models are taken, and why.
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("pillsnap").setLevel(logging.INFO)
    with ended_by_signals():
        return create_app(config, read_environment(config.source))


def create_app(config: Config, environ: Mapping[str, str]) -> FastAPI:
    """The service; loads its models.

    Args:
        environ: see read_environment; API_KEY and the model paths are looked up here.

    Raises:
        PillsnapError: fastapi is not installed, or a model cannot be loaded.
    """
    try:
        from fastapi import FastAPI
    except ImportError as error:
        raise PillsnapError(
            "fastapi is not installed", hint="pip install 'pillsnap[serve]'"
        ) from error
    service = Service(config, environ)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # No pages that describe the service: they would be open to everyone.
    app = FastAPI(title="pillsnap", lifespan=lifespan, openapi_url=None)
    routes = (
        ("GET", "/health", service.health),
        ("GET", "/version", service.version),
        ("POST", "/predict", service.predict),
        ("POST", "/reload", service.reload),
        ("GET", "/metrics", service.metrics_text),
    )
    for method, path, answer in routes:
        app.add_route(path, service.guarded(path, answer), methods=[method])
    for status in (404, 405):
        app.add_exception_handler(status, _plain_error)
    return app


async def _plain_error(_: Request, error: Exception) -> Response:
    status: int = getattr(error, "status_code", 500)
    return _json(status, {"error": {404: "there is no such route", 405: "wrong method"}[status]})


class Service:
    """What the routes share; arguments and errors are create_app's."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._config = config
        self._key = read_key(environ)
        self._metrics = Metrics()
        self._models = ModelManager(config, environ, self._metrics)
        # Decoded photos are large: as few at a time as can be worked on.
        cores = len(os.sched_getaffinity(0))
        self._decoders = ThreadPoolExecutor(cores, thread_name_prefix="decode")
        self._decoded = asyncio.Semaphore(max(config.serve.batch_size, cores))
        self._reloading = asyncio.Lock()
        self._waiting = 0

    def close(self) -> None:
        """Called when nobody waits for an answer any more; takes CLOSE_S at the most."""
        self._models.batcher.close(CLOSE_S)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def guarded(
        self, path: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A route with access control and counted answers, in which every error is JSON."""

        async def guard(request: Request) -> Response:
            try:
                if path != "/health":
                    peer = request.client.host if request.client else None
                    require_access(self._key, peer, request.headers)
                response = await answer(request)
            except Refusal as refusal:
                response = _json(refusal.status, {"error": refusal.message})
            except PillsnapError as error:
                log.error("%s: %s", path, error)
                response = _json(500, {"error": public_message(error)})
            except Exception:
                name = secrets.token_hex(4)
                log.exception("%s: error %s", path, name)
                response = _json(500, {"error": f"internal error {name}: see the service's log"})
            self._metrics.count("requests", route=path, status=str(response.status_code))
            return response

        return guard

    async def health(self, _: Request) -> Response:
        return _json(200, {"status": "ok"})

    async def version(self, _: Request) -> Response:
        mode = self._config.pipeline.mode
        models = self._models.describe()
        return _json(200, {"pillsnap": package_version("pillsnap"), "mode": mode, "models": models})

    async def metrics_text(self, _: Request) -> Response:
        from fastapi import Response

        models = self._models.describe()
        text = self._metrics.render({"waiting_requests": self._waiting}, models)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def predict(self, request: Request) -> Response:
        """One result per image, in order; 422 where none of them can be read."""
        limits, started = self._config.serve, time.monotonic()
        if self._waiting >= limits.max_waiting:
            raise Refusal(503, "too many requests wait already: try again later")
        self._waiting += 1
        try:
            uploads, mode = await read_images(request, limits)
            results = await self._answer(uploads, mode or self._config.pipeline.mode)
        finally:
            self._waiting -= 1
        unreadable = sum("error" in result for result in results)
        self._metrics.count("images", len(results) - unreadable, outcome="answered")
        self._metrics.count("images", unreadable, outcome="unreadable")
        self._metrics.observe_predict(time.monotonic() - started)
        content: Result = {"results": results, "unreadable": unreadable}
        if unreadable == len(results):
            what = results[0]["error"] if unreadable == 1 else "none of the images can be read"
            return _json(422, {"error": what, **content})
        return _json(200, content)

    async def _answer(self, uploads: list[Upload], mode: str) -> list[Result]:
        missing = [
            stage for stage in STAGES_OF[mode] if stage not in self._models.batcher.pipeline.stages
        ]
        if missing:
            raise Refusal(422, f"mode {mode} needs a {missing[0]} model, and none is loaded")
        loop = asyncio.get_running_loop()
        async with self._decoded:
            images = await loop.run_in_executor(
                self._decoders, decode_images, uploads, self._config.serve
            )
            readable = [image for image in images if not isinstance(image, str)]
            found: list[Result] = []
            if readable:
                future = self._models.batcher.submit(readable, mode)
                found = await asyncio.wrap_future(future)
        answers = iter(found)
        return [
            {
                "image": upload.name,
                **({"error": image} if isinstance(image, str) else next(answers)),
            }
            for upload, image in zip(uploads, images, strict=True)
        ]

    async def reload(self, request: Request) -> Response:
        """Replace models; on any failure the old ones go on serving, and the answer says why."""
        outcome = "refused"
        try:
            paths, allow_unverified = _read_reload(await read_json_object(request))
            async with self._reloading:
                await asyncio.wrap_future(
                    start_thread(
                        lambda: self._models.reload(paths, allow_unverified=allow_unverified)
                    )
                )
            outcome = "done"
        except PillsnapError as error:
            log.error("/reload: %s", error)
            raise Refusal(422, f"the old models keep serving: {public_message(error)}") from error
        finally:
            self._metrics.count("reloads", outcome=outcome)
        return _json(200, {"models": self._models.describe()})


def _read_reload(content: dict[str, Any]) -> tuple[dict[str, str], bool]:
    """Path by stage, and whether unverified models are asked for."""
    allow = content.pop("allow_unverified", False)
    if not isinstance(allow, bool):
        raise Refusal(422, "allow_unverified must be true or false")
    unknown = ", ".join(sorted(str(key)[:50] for key in content.keys() - _RELOAD.keys()))
    if unknown or not content or ("model_path" in content and len(content) > 1):
        raise Refusal(
            422,
            "give model_path, or classification_model_path and detection_model_path or one of them"
            + (f"; unknown: {unknown}" if unknown else ""),
        )
    if not all(isinstance(path, str) for path in content.values()):
        raise Refusal(422, "a model path must be text")
    return {_RELOAD[key]: path for key, path in content.items()}, allow


def _json(status: int, content: Any) -> Response:
    from fastapi.responses import JSONResponse

    return JSONResponse(content, status_code=status)
