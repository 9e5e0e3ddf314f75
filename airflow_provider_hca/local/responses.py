"""JSON responses, and their description in the OpenAPI document."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field


class ApiResponse(JSONResponse):
    """A JSON response in ASCII: stored text may contain characters that UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


ResponseDocs = dict[int | str, dict[str, Any]]
# Headers with the type and the description of their values.
PAGE_HEADERS = {
    "X-OpenAPI-Pagination": ("boolean", "Whether there is a next page."),
    "X-OpenAPI-Paginated-Content-Key": ("string", "Path of the list in the body."),
}
LINK_HEADER = {"Link": ("string", "URL of the next page.")}
LOCATION_HEADER = {"Location": ("string", "URL to request next.")}
RETRY_AFTER_HEADER = {"Retry-After": ("integer", "Seconds to wait before the next request.")}


def response_doc(
    status: int,
    description: str,
    model: type[BaseModel] | None = None,
    *,
    headers: Mapping[str, tuple[str, str]] | None = None,
) -> ResponseDocs:
    """Return the OpenAPI description of a response.

    :param status: HTTP status
    :param description: description; for errors the possible codes
    :param model: model of the body; None for no body, and for errors, whose body `openapi.complete` adds
    :param headers: headers with the type and the description of their values
    """
    doc: dict[str, Any] = {"description": description} | ({"model": model} if model else {})
    if headers:
        doc["headers"] = {
            name: {"description": text, "schema": {"type": kind}} for name, (kind, text) in headers.items()
        }
    return {status: doc}


def page_docs(model: type[BaseModel]) -> ResponseDocs:
    """Return the OpenAPI description of a paged response.

    :param model: model of the body
    """
    return response_doc(200, "All items, or the last page", model, headers=PAGE_HEADERS) | response_doc(
        206, "One page; the Link header has the URL of the next", model, headers=PAGE_HEADERS | LINK_HEADER
    )


def page_headers(key: str, link: str | None = None) -> dict[str, str]:
    """Return the paging headers of a response.

    :param key: path of the list in the body
    :param link: URL of the next page; None for the last page
    """
    headers = {"X-OpenAPI-Pagination": "true" if link else "false", "X-OpenAPI-Paginated-Content-Key": key}
    return headers | ({"Link": f"<{link}>; rel='next'"} if link else {})


class FQID(BaseModel):
    """UUID and version of a resource."""

    uuid: str = Field(description="UUID of the resource.")
    version: str = Field(description="Version, a DSS_VERSION.")
