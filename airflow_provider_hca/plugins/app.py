"""The page as an application: routes, permissions and response headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_hca.exceptions import DSSError, DSSNotFoundError
from airflow_provider_hca.plugins import access, bundles, connections, files, ingests, pages
from airflow_provider_hca.plugins.dss import sendable

_HEADERS = {
    # Uploaders choose file names. If one ever ended up in the page as markup, no script in it would run.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


def make_app() -> FastAPI:
    """Return the application that Airflow mounts; all routes need the permission to see plugins."""
    app = FastAPI(title="DSS", openapi_url=None, dependencies=[access.SEES_PAGE])
    for module in (pages, connections, bundles, files, ingests):
        app.include_router(module.router)
    app.add_exception_handler(DSSError, _report_error)  # type: ignore[arg-type]  # it is called with no other errors

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        # The next user of the same browser may have fewer permissions.
        response.headers.setdefault("cache-control", "no-store")
        return response

    return app


async def _report_error(_: Request, error: DSSError) -> JSONResponse:
    """Return the message of an error of the DSS or of the connection to it; messages contain no secrets."""
    missing = isinstance(error, DSSNotFoundError)  # a running upload may still create it
    return JSONResponse({"detail": sendable(str(error)), "missing": missing}, 404 if missing else 502)
