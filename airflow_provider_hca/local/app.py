"""The FastAPI application: the API under `/v1`, the admin API beside it, and the error handlers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from .dependencies import WrongContentTypeError
from .errors import (
    PROBLEM_JSON,
    BareServerError,
    ProblemError,
    UndefinedCodeError,
    about_blank,
    bare_error,
    gateway_error,
    problem_response,
    undefined_code,
)
from .openapi import complete
from .responses import ApiResponse
from .routes import bundles, checkouts, collections, events, files, search, subscriptions

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .dependencies import Services


def create_app(services: Services, admin_routers: list[APIRouter], dss_url: str) -> FastAPI:
    """Return the application.

    :param services: stores and settings of the routes
    :param admin_routers: routes under `/_local`
    :param dss_url: base URL of the API, with `/v1`
    """
    api = FastAPI(
        title="Local DSS",
        description="The API of the DSS, as implemented by the local DSS.",
        version="1",
        redirect_slashes=False,
        openapi_url=None,
        separate_input_output_schemas=False,  # otherwise optional fields of responses become required
    )
    api.state.services = services
    for module in (files, checkouts, bundles, collections, events, subscriptions, search):
        api.include_router(module.router)
    _add_error_handlers(api)

    @cache  # built on first use: it takes 0.25 s
    def document() -> dict[str, Any]:
        # The original client `hca` takes the URL from `servers` if there is an "openapi" key, and insists on https
        # otherwise.
        return complete(api.openapi()) | {"servers": [{"url": dss_url}]}

    @api.get("/swagger.json", include_in_schema=False)
    def definition() -> JSONResponse:
        return JSONResponse(document())

    root = FastAPI(openapi_url=None, redirect_slashes=False)
    for router in admin_routers:
        root.include_router(router)
    _add_error_handlers(root)

    @root.get("/_local/auth-swagger.json")
    async def auth_definition() -> dict[str, Any]:
        # The original client `hca` fetches the definition of an authentication service before any other request.
        info = {"title": "None", "description": "There is no authentication service.", "version": "1"}
        return {"openapi": "3.1.0", "info": info, "servers": [{"url": dss_url}], "paths": {}}

    root.mount("/v1", api)
    return root


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> Response:
        return problem_response(error, request.method)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        if any(detail["type"] == "json_invalid" for detail in error.errors()):
            return about_blank(400, "Bad Request", "The body is not JSON")
        title = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()[:5])
        return problem_response(ProblemError(400, "illegal_arguments", title), request.method)

    @app.exception_handler(WrongContentTypeError)
    async def wrong_content_type(_: Request, error: WrongContentTypeError) -> Response:
        return gateway_error(415, "UnsupportedMediaType", f"Unsupported media type: {error}")

    @app.exception_handler(UndefinedCodeError)
    async def undefined(_: Request, error: UndefinedCodeError) -> Response:
        return ApiResponse(undefined_code(error.code), 500, error.headers, PROBLEM_JSON)

    @app.exception_handler(BareServerError)
    async def bare(_: Request, __: BareServerError) -> Response:
        return bare_error()

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        return bare_error()

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        return _routing_error(request, error)


def _routing_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return JSONResponse({"message": "Missing Authentication Token"}, 403)
    if error.status_code == 400:  # an error of the JSON parser that FastAPI does not expect
        return about_blank(400, "Bad Request", error.detail)
    if request.method == "OPTIONS":
        return Response(headers=error.headers)
    message = f"Unsupported method: {request.method}"
    return gateway_error(error.status_code, "MethodNotAllowedError", message, error.headers)
