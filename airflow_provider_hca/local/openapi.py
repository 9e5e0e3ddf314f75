"""Add to FastAPI's OpenAPI document what it does not know: the errors of every operation, and their bodies."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from .errors import PROBLEM_JSON


class Problem(BaseModel):
    """Usual error response."""

    status: int
    code: str = Field(description="Machine-readable error code.")
    title: str = Field(description="Error message.")
    stacktrace: str


class FrameworkProblem(BaseModel):
    """Error response of the DSS's framework: for a body that is not JSON, or for a code that it does not know."""

    type: str
    title: str
    detail: str
    status: int


class BareProblem(BaseModel):
    """Response for an unhandled error, or of the gateway's own checks."""

    Code: str
    Message: str


class GatewayProblem(BaseModel):
    """Error response of the gateway in front of a DSS, for example for an unknown route."""

    message: str


class TimedOut(BaseModel):
    """Response of the gateway after a timeout."""

    status: int
    code: str
    title: str
    traces: list[Any] | dict[str, Any]


_EVERYWHERE = {
    400: "illegal_arguments, or a more specific code",
    500: "unhandled_exception, with Retry-After if a retry may help; or an unhandled error",
    502: "The service cannot be reached",
    503: "read_only or service_unavailable",
    504: "timed_out; the request may still be completed",
}
_WITH_TOKEN = {
    401: "OAuthProblem without a token, Unauthorized with an invalid one",
    403: "Forbidden, or unknown route",
}
_WITH_PATH = {403: "Unknown route"}
_WITH_BODY = {415: "The content type of the body is not JSON"}
_ERROR_BODIES: dict[int, list[tuple[str, type[BaseModel]]]] = {
    400: [(PROBLEM_JSON, Problem), (PROBLEM_JSON, FrameworkProblem)],
    403: [(PROBLEM_JSON, Problem), ("application/json", GatewayProblem)],
    415: [("application/json", BareProblem)],
    500: [(PROBLEM_JSON, Problem), (PROBLEM_JSON, FrameworkProblem), ("application/json", BareProblem)],
    504: [(PROBLEM_JSON, TimedOut)],
}
_MODELS: list[type[BaseModel]] = [Problem, FrameworkProblem, BareProblem, GatewayProblem, TimedOut]
_DEFAULT_ERROR_BODY: list[tuple[str, type[BaseModel]]] = [(PROBLEM_JSON, Problem)]


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add every error of every operation to FastAPI's document, in place, and return it."""
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
    if responses.get("422", {}).get("description") == "Validation Error":  # FastAPI's default; here it is a 400
        del responses["422"]
    common = _EVERYWHERE | (_WITH_PATH if "{" in path else {})
    common |= _WITH_TOKEN if "security" in operation else {}
    common |= _WITH_BODY if "requestBody" in operation else {}
    for status, description in common.items():
        responses.setdefault(str(status), {"description": description})
    for status, response in responses.items():
        if int(status) >= 400 and method != "head":
            forms: dict[str, list[dict[str, str]]] = {}
            for kind, model in _ERROR_BODIES.get(int(status), _DEFAULT_ERROR_BODY):
                forms.setdefault(kind, []).append({"$ref": f"#/components/schemas/{model.__name__}"})
            response["content"] = {kind: {"schema": {"anyOf": models}} for kind, models in forms.items()}
    operation["responses"] = dict(sorted(responses.items()))
