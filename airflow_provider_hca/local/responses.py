"""Answers in JSON, and what the interface definition says of them."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field


class Answer(JSONResponse):
    """JSON in plain ASCII, so that whatever a store holds can be said."""

    def render(self, content: Any) -> bytes:
        """Return the body.

        :param content: what it says
        """
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


Documented = dict[int | str, dict[str, Any]]
# Headers, each with the type of its value and what it says.
PAGED = {
    "X-OpenAPI-Pagination": ("boolean", "Whether there is a next page."),
    "X-OpenAPI-Paginated-Content-Key": ("string", "Where in the body the list is."),
}
LINKED = {"Link": ("string", "Leads to the next page.")}
REDIRECTED = {"Location": ("string", "Where to ask.")}
LATER = {"Retry-After": ("integer", "How many seconds to wait before that.")}


def says(
    status: int,
    description: str,
    model: type[BaseModel] | None = None,
    *,
    headers: Mapping[str, tuple[str, str]] | None = None,
) -> Documented:
    """Return what the interface definition says of one status.

    :param status: the HTTP status
    :param description: what it means; of an error, its codes
    :param model: the body, None where `definition.complete` fills in that of an error, or there is none
    :param headers: the headers, each with the type of its value and what it says
    """
    said: dict[str, Any] = {"description": description} | ({"model": model} if model else {})
    if headers:
        said["headers"] = {
            name: {"description": text, "schema": {"type": kind}} for name, (kind, text) in headers.items()
        }
    return {status: said}


def page_headers(key: str, link: str | None = None) -> dict[str, str]:
    """Return the headers by which clients page through a list.

    :param key: where in the body the list is
    :param link: the URL of the next page, None for the last one
    """
    headers = {"X-OpenAPI-Pagination": "true" if link else "false", "X-OpenAPI-Paginated-Content-Key": key}
    return headers | ({"Link": f"<{link}>; rel='next'"} if link else {})


class FQID(BaseModel):
    """What identifies immutable content."""

    uuid: str = Field(description="A uuid.")
    version: str = Field(description="A DSS_VERSION.")
