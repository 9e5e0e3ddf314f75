"""The error responses of a DSS, and the exceptions that are rendered as such."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

from .responses import ApiResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM_JSON = "application/problem+json"


class ProblemError(Exception):
    """An error response with the usual fields: status, code, title, stacktrace."""

    def __init__(self, status: int, code: str, title: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.code = code
        self.title = title
        self.headers = dict(headers or {})


class UndefinedCodeError(Exception):
    """An error whose code the operation's definition lacks: a DSS validates its own responses, and answers 500."""

    def __init__(self, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.headers = dict(headers or {})


class BareServerError(Exception):
    """An unhandled error of a DSS: 500 with `Code` and `Message` only, without Retry-After."""


def retry_later(title: str) -> ProblemError:
    """Return the 500 with Retry-After that a DSS sends for some permanent errors, where a retry does not help.

    :param title: error message, with the URL of the object
    """
    return ProblemError(500, "unhandled_exception", title, {"Retry-After": "10"})


def problem_response(problem: ProblemError, method: str) -> Response:
    """Return the response for an error, without a body if `method` is HEAD."""
    if method == "HEAD":
        return Response(status_code=problem.status, headers=problem.headers, media_type=PROBLEM_JSON)
    stack = "".join(traceback.format_exception(type(problem), problem, None))
    body = {"status": problem.status, "code": problem.code, "title": problem.title, "stacktrace": stack}
    return ApiResponse(body, problem.status, problem.headers, PROBLEM_JSON)


def about_blank(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error response in the form that the DSS's framework, Connexion, gives its own errors."""
    body = {"type": "about:blank", "title": title, "detail": detail, "status": status}
    return ApiResponse(body, status, headers, PROBLEM_JSON)


def undefined_code(code: str) -> dict[str, Any]:
    """Return the body of the response for an error whose code is not defined."""
    detail = f"'{code}' is not one of ['illegal_arguments', 'not_found', 'unhandled_exception']"
    return {
        "type": "about:blank",
        "title": "Response body does not conform to specification",
        "detail": detail,
        "status": 500,
    }


def gateway_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error response of the gateway's own checks."""
    return ApiResponse({"Code": code, "Message": message}, status, headers)


def bare_error(status: int = 500) -> Response:
    """Return the response for an unhandled error."""
    body = {"Code": "InternalServerError", "Message": "An internal server error occurred."}
    return ApiResponse(body, status)


def fault_body(status: int) -> dict[str, Any]:
    """Return the body that a failing DSS, or the gateway in front of it, sends with `status`."""
    if status == 504:
        return {"status": 504, "code": "timed_out", "title": "Timed out processing request.", "traces": []}
    if status == 429:
        return {"message": "Too Many Requests"}
    codes = {401: "Unauthorized", 403: "Forbidden", 500: "unhandled_exception", 503: "read_only"}
    code = codes.get(status, "unhandled_exception")
    return {"status": status, "code": code, "title": f"Injected fault: status {status}", "stacktrace": ""}


def read_only_error(method: str, path: str) -> tuple[int, dict[str, Any], float | None]:
    """Return status, body and Retry-After that a DSS sends for a write in its read-only mode.

    The validation of its own responses does not know the code for these two operations.
    """
    if (method == "PATCH" and "/bundles/" in path) or path.endswith("/checkout"):
        return 500, undefined_code("read_only"), None
    body = {"status": 503, "code": "read_only", "title": "The DSS is read-only", "stacktrace": ""}
    return 503, body, 600 if method == "PATCH" else 10
