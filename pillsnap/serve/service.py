"""The routes of the service."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pillsnap.config.cells import CLASSIFICATION, DETECTION
from pillsnap.config.load import read_environment
from pillsnap.config.settings import Config
from pillsnap.core.errors import PillsnapError
from pillsnap.core.logrecords import open_log
from pillsnap.core.packages import package_version
from pillsnap.serve.access import read_key, require_access
from pillsnap.serve.connection import CloseUnread
from pillsnap.serve.loading import ModelManager
from pillsnap.serve.metrics import Metrics
from pillsnap.serve.prediction import Predictor
from pillsnap.serve.refusal import Refusal, public_message
from pillsnap.serve.starting import Start, choose_starts
from pillsnap.serve.threads import start_thread
from pillsnap.serve.uploads import read_json_object

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

log = open_log(__name__)

# Seconds that a batch which still runs is waited for at the end.
CLOSE_S = 5

# Keys of /reload's body, and the stage that each is about; "" is the file's own.
_RELOAD = {
    "model_path": "",
    "classification_model_path": CLASSIFICATION,
    "detection_model_path": DETECTION,
}

# What a request counts as whose client does not wait for the answer: nginx's number for it.
_HUNG_UP = 499


def require_libraries(*further: str) -> None:
    """Raises PillsnapError: a library of the extra is missing."""
    try:
        for name in ("prometheus_client", "starlette.applications", *further):
            import_module(name)
    except ImportError as error:
        raise PillsnapError(
            f"{error.name} is not installed", hint="pip install 'pillsnap[serve]'"
        ) from error


def create_app(
    config: Config, environ: Mapping[str, str], starts: Mapping[str, Start] | None = None
) -> Starlette:
    """The service; loads its models.

    Args:
        environ: of the process; API_KEY and the model paths are looked up there and in .env.
        starts: the models to start with; by default they are chosen here.

    Raises:
        PillsnapError: a library of the extra is missing, API_KEY or another variable is wrong, or a
            model cannot be loaded.
    """
    require_libraries()
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    service = Service(config, environ, starts)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    routes = (
        ("GET", "/health", service.health),
        ("GET", "/version", service.version),
        ("POST", "/predict", service.predict),
        ("POST", "/reload", service.reload),
        ("GET", "/metrics", service.metrics_text),
    )
    return Starlette(
        routes=[
            Route(path + slash, service.guarded(path, answer), methods=[method])
            for method, path, answer in routes
            for slash in ("", "/")  # what asks after a service's health seldom follows a redirect
        ],
        middleware=[Middleware(CloseUnread)],
        exception_handlers=dict.fromkeys((404, 405), _plain_error),
        lifespan=lifespan,
    )


async def _plain_error(_: Request, error: Exception) -> Response:
    status: int = getattr(error, "status_code", 500)
    return _json(status, {"error": {404: "there is no such route", 405: "wrong method"}[status]})


class Service:
    """What the routes share; arguments and errors are create_app's."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], starts: Mapping[str, Start] | None
    ) -> None:
        self._config = config
        variables = read_environment(config.source, environ)
        self._key = read_key(variables)
        self._metrics = Metrics()
        starts = choose_starts(config, variables) if starts is None else starts
        self._models = ModelManager(config, environ, starts, self._metrics)
        self._predictor = Predictor(config, self._models, self._metrics)
        self._reloading = asyncio.Lock()

    def close(self) -> None:
        """Called when nobody waits for an answer any more; takes CLOSE_S at the most."""
        self._models.batcher.close(CLOSE_S)
        self._predictor.close()

    def guarded(
        self, path: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A route with access control and counted answers, in which every error is JSON."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import Response

        async def guard(request: Request) -> Response:
            try:
                if path != "/health":
                    peer = request.client.host if request.client else None
                    server = request.scope.get("server")
                    require_access(self._key, peer, request.headers, server=server)
                response = await answer(request)
            except Refusal as refusal:
                response = _json(refusal.status, {"error": refusal.message})
                if refusal.status == 401:
                    response.headers["www-authenticate"] = "Bearer"
            except ClientDisconnect:
                response = Response(status_code=_HUNG_UP)
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
        self._models.batcher.require_running()
        return _json(200, {"status": "ok"})

    async def version(self, _: Request) -> Response:
        facts = {"pillsnap": package_version("pillsnap"), "mode": self._config.pipeline.mode}
        return _json(200, {**facts, "models": self._models.describe_all()})

    async def metrics_text(self, _: Request) -> Response:
        from starlette.responses import Response

        models = self._models.describe()
        text = self._metrics.render(self._predictor.waiting, models)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def predict(self, request: Request) -> Response:
        return _json(*await self._predictor.answer(request))

    async def reload(self, request: Request) -> Response:
        """Replace models; on any failure the old ones go on serving, and the answer says why."""
        outcome = "refused"
        try:
            body = await read_json_object(request, self._config.serve)
            paths, allow_unverified = _read_reload(body)
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
        return _json(200, {"models": self._models.describe_all()})


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
    from starlette.responses import JSONResponse

    return JSONResponse(content, status_code=status)
