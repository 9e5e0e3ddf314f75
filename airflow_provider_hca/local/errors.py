"""The shapes in which a DSS says no, and the exceptions that become them."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

from .responses import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM_JSON = "application/problem+json"


class ProblemError(Exception):
    """An answer of the usual error shape: status, code, title, stacktrace."""

    def __init__(self, status: int, code: str, title: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.code = code
        self.title = title
        self.headers = dict(headers or {})


class BareServerError(Exception):
    """The 500 that a DSS gives for what it did not expect: no Retry-After, and only `Code` and `Message`."""


def retry_later(title: str) -> ProblemError:
    """Return the 500 a DSS gives for a mistake it takes for a passing one, though repeating will not help.

    :param title: what went wrong, naming the object
    """
    return ProblemError(500, "unhandled_exception", title, {"Retry-After": "10"})


def problem_response(problem: ProblemError, method: str) -> Response:
    """Return the HTTP answer for `problem`; a HEAD gets the status alone.

    :param problem: what went wrong
    :param method: the method of the request
    """
    if method == "HEAD":
        return Response(status_code=problem.status, headers=problem.headers)
    stack = "".join(traceback.format_exception(type(problem), problem, None))
    body = {"status": problem.status, "code": problem.code, "title": problem.title, "stacktrace": stack}
    return Answer(body, problem.status, problem.headers, PROBLEM_JSON)


def about_blank(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error made by the framework of the DSS rather than by the DSS itself.

    :param status: the HTTP status
    :param title: the name of the status
    :param detail: what was wrong with the request
    :param headers: headers to come with it
    """
    body = {"type": "about:blank", "title": title, "detail": detail, "status": status}
    return Answer(body, status, headers, PROBLEM_JSON)


def bare_error(status: int = 500) -> Response:
    """Return the answer to a failure nobody caught.

    :param status: the HTTP status
    """
    body = {"Code": "InternalServerError", "Message": "An internal server error occurred."}
    return Answer(body, status)


def fault_body(status: int) -> dict[str, Any]:
    """Return the body in which a DSS, or the gateway before it, gives `status` when it is not well.

    :param status: the HTTP status
    """
    if status == 504:
        return {"status": 504, "code": "timed_out", "title": "Timed out processing request.", "traces": []}
    if status == 429:
        return {"message": "Too Many Requests"}
    codes = {401: "Unauthorized", 403: "Forbidden", 500: "unhandled_exception", 503: "read_only"}
    code = codes.get(status, "unhandled_exception")
    return {"status": status, "code": code, "title": f"A fault switched on for {status}", "stacktrace": ""}
