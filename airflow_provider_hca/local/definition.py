"""What the interface definition says beyond what FastAPI knows: the errors of every operation, and their forms."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from .errors import PROBLEM_JSON


class Problem(BaseModel):
    """The usual form of an error."""

    status: int
    code: str = Field(description="What programs go by.")
    title: str = Field(description="What went wrong, for people.")
    stacktrace: str


class FrameworkProblem(BaseModel):
    """The form of an error that the framework of a DSS finds."""

    type: str
    title: str
    detail: str
    status: int


class BareProblem(BaseModel):
    """The form of a failure that nobody caught."""

    Code: str
    Message: str


class GatewayProblem(BaseModel):
    """The form in which the gateway before a DSS refuses what it has no route for."""

    message: str


class TimedOut(BaseModel):
    """The form of an answer that took too long."""

    status: int
    code: str
    title: str
    traces: list[Any] | dict[str, Any]


_EVERYWHERE = {
    400: "illegal_arguments, or a code that says more",
    500: "unhandled_exception, with Retry-After where repeating may help; or a failure that nobody caught",
    502: "The service cannot be reached",
    503: "read_only or service_unavailable",
    504: "timed_out, though the work may still be done",
}
_WITH_TOKEN = {401: "OAuthProblem without a token, Unauthorized with a bad one", 403: "Forbidden, or no such route"}
_WITH_PATH = {403: "No such route, which is a matter of the path"}
_WITH_BODY = {415: "The body does not say that it is JSON"}
_FORMS: dict[int, list[tuple[str, type[BaseModel]]]] = {
    403: [(PROBLEM_JSON, Problem), ("application/json", GatewayProblem)],
    415: [(PROBLEM_JSON, FrameworkProblem)],
    500: [(PROBLEM_JSON, Problem), ("application/json", BareProblem)],
    504: [(PROBLEM_JSON, TimedOut)],
}
_MODELS: list[type[BaseModel]] = [Problem, FrameworkProblem, BareProblem, GatewayProblem, TimedOut]
_USUAL: list[tuple[str, type[BaseModel]]] = [(PROBLEM_JSON, Problem)]


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's document with every error of every operation.

    :param document: the document, which is changed
    """
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _complete(path, method, operation)
    components = document["components"]["schemas"]
    components |= {model.__name__: model.model_json_schema() for model in _MODELS}
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    return document


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if responses.get("422", {}).get("description") == "Validation Error":  # which is a 400 here
        del responses["422"]
    common = _EVERYWHERE | (_WITH_PATH if "{" in path else {})
    common |= _WITH_TOKEN if "security" in operation else {}
    common |= _WITH_BODY if "requestBody" in operation else {}
    for status, description in common.items():
        responses.setdefault(str(status), {"description": description})
    for status, response in responses.items():
        if int(status) >= 400 and method != "head":
            response["content"] = {
                kind: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
                for kind, model in _FORMS.get(int(status), _USUAL)
            }
    operation["responses"] = dict(sorted(responses.items()))
