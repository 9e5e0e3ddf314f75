"""The page put together: its routes, who may use them, and what every answer says to the browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_hca.exceptions import DSSError, DSSNotFoundError
from airflow_provider_hca.plugins import access, bundles, connections, files, ingests, pages
from airflow_provider_hca.plugins.dss import sendable

_HEADERS = {
    # Names of files come from whoever uploaded them. Should one ever get into the page as markup, nothing in it runs.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


def make_app() -> FastAPI:
    """Return the application that Airflow mounts. None of its routes answers to those who may not see plugins."""
    app = FastAPI(title="DSS", openapi_url=None, dependencies=[access.SEES_PAGE])
    for module in (pages, connections, bundles, files, ingests):
        app.include_router(module.router)
    app.add_exception_handler(DSSError, _told)  # type: ignore[arg-type]  # it is called with no other errors

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        # What somebody was allowed to see is not for the next one at the same computer.
        response.headers.setdefault("cache-control", "no-store")
        return response

    return app


async def _told(_: Request, error: DSSError) -> JSONResponse:
    """Answer with what the DSS, or the way there, had to say; no message of this package holds a secret."""
    missing = isinstance(error, DSSNotFoundError)  # and may come yet, unlike what is not there in Airflow
    return JSONResponse({"detail": sendable(str(error)), "missing": missing}, 404 if missing else 502)
