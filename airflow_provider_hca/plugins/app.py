"""The page as an application: routes, permissions and response headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from airflow_provider_hca.exceptions import DSSConnectionError, DSSError, DSSNotFoundError, DSSResponseError
from airflow_provider_hca.plugins import access, assets, bundles, connections, files, ingests, pages
from airflow_provider_hca.plugins.dss import InvalidConnectionError
from airflow_provider_hca.plugins.text import plain_text

_HEADERS = {
    # Uploaders choose file names. If one ever ended up in the page as markup, no script in it would run.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


def make_app() -> FastAPI:
    """Return the application that Airflow mounts; all routes need the permission to see plugins."""
    app = FastAPI(title="DSS", openapi_url=None, dependencies=[access.SEES_PAGE, access.REMEMBERS_USER])
    for module in (pages, assets, connections, bundles, files, ingests):
        app.include_router(module.router)
    for kind in (DSSError, InvalidConnectionError):
        app.add_exception_handler(kind, _report_error)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        # The next user of the same browser may have fewer permissions.
        response.headers.setdefault("cache-control", "no-store")
        return response

    return app


async def _report_error(request: Request, error: Exception) -> JSONResponse:
    """Return the message of an error, which may quote the connection, only to users who may read connections."""
    missing = isinstance(error, DSSNotFoundError)  # a running upload may still create it
    status = 404 if missing else 409 if isinstance(error, InvalidConnectionError) else 502
    informed = await run_in_threadpool(access.reads_connections, request.state.user)
    detail = plain_text(str(error)) if informed else f"{_summary(error)}. Users who may read connections see the reason"
    return JSONResponse({"detail": detail, "missing": missing}, status)


def _summary(error: Exception) -> str:
    match error:
        case InvalidConnectionError():
            return "the connection has an invalid setting"
        case DSSNotFoundError():
            return "the DSS does not have this in this replica"
        case DSSResponseError():
            return f"the DSS answered with status {error.status}"
        case DSSConnectionError():
            return "the DSS does not answer"
    return "the page cannot use the answer of the DSS"
