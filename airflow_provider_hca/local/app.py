"""The application put together: the API under `/v1`, the switches beside it, and one shape for every error."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from . import bundles, checkouts, events, files, search, subscriptions, user_collections
from .definition import complete
from .errors import BareServerError, ProblemError, about_blank, bare_error, problem_response
from .services import WrongContentTypeError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .services import Services


def make_app(services: Services, controls: list[APIRouter], dss_url: str) -> FastAPI:
    """Return the application.

    :param services: what the endpoints work with
    :param controls: the routes under `/_local`
    :param dss_url: the public base URL of the API, with `/v1`
    """
    api = FastAPI(
        title="Local DSS",
        description="The API of the DSS, as the local DSS has it.",
        version="1",
        redirect_slashes=False,
        openapi_url=None,
        separate_input_output_schemas=False,  # or every answer would be said to have what it may have
    )
    api.state.services = services
    for module in (files, checkouts, bundles, user_collections, events, subscriptions, search):
        api.include_router(module.router)
    _shape_errors(api)

    @cache  # made when it is first asked for: it takes a quarter of a second
    def document() -> dict[str, Any]:
        # With an "openapi" key the original client takes the URL from `servers`; otherwise it would insist on https.
        return complete(api.openapi()) | {"servers": [{"url": dss_url}]}

    @api.get("/swagger.json", include_in_schema=False)
    def definition() -> JSONResponse:
        return JSONResponse(document())

    root = FastAPI(openapi_url=None, redirect_slashes=False)
    for control in controls:
        root.include_router(control)
    _shape_errors(root)

    @root.get("/_local/auth-swagger.json")
    async def no_auth_service() -> dict[str, Any]:
        # The original client fetches the definition of an authentication service before it does anything at all.
        info = {"title": "None", "description": "There is no authentication service.", "version": "1"}
        return {"openapi": "3.1.0", "info": info, "servers": [{"url": dss_url}], "paths": {}}

    root.mount("/v1", api)
    return root


def _shape_errors(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> Response:
        return problem_response(error, request.method)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5])
        return problem_response(ProblemError(400, "illegal_arguments", faults), request.method)

    @app.exception_handler(WrongContentTypeError)
    async def wrong_content_type(_: Request, error: WrongContentTypeError) -> Response:
        return about_blank(415, "Unsupported Media Type", f"Content-type {error} is not application/json")

    @app.exception_handler(BareServerError)
    async def bare(_: Request, __: BareServerError) -> Response:
        return bare_error()

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        return bare_error()

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return JSONResponse({"message": "Missing Authentication Token"}, 403)
        if error.status_code == 400:  # a body that is no JSON in a way that its parser did not foresee
            return problem_response(ProblemError(400, "illegal_arguments", error.detail), request.method)
        status = HTTPStatus(error.status_code)
        return about_blank(status.value, status.phrase, error.detail, error.headers)
