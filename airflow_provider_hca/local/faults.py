"""Inject faults into responses, and count requests."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .errors import fault_body, read_only_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ADMIN_PREFIX = "/_local/"
_MAX_COUNTED = 50_000  # different requests, of about 300 bytes each


class Fault(BaseModel):
    """A fault that is injected into the next requests that match."""

    model_config = ConfigDict(extra="forbid")

    method: str = "*"
    path: str = ""  # regular expression, searched in the path of the URL
    times: int = Field(default=1, ge=1)
    action: Literal["status", "read_only", "drop", "slow", "fail_copy", "fail_checkout"] = "status"
    status: int | None = Field(default=None, ge=200, le=599)  # 503 if None; 422 for fail_copy
    retry_after: float | None = None
    seconds: float = Field(default=1.0, ge=0)
    after: bool = False  # inject the fault after the request has been processed

    @field_validator("path")
    @classmethod
    def _compile_path(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def matches(self, method: str, path: str) -> bool:
        """Return whether the fault applies to a request."""
        return self.method.upper() in {"*", method} and re.search(self.path, path) is not None


@dataclass
class FaultRegistry:
    """Active faults and counted requests. Not thread-safe: used from the event loop only."""

    faults: list[Fault] = field(default_factory=list)
    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault that matches, and use it up once."""
        for fault in self.faults:
            if fault.matches(method, path):
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None

    def count(self, method: str, path: str, status: int) -> None:
        """Count a request; the oldest are dropped above a limit.

        :param status: status of the response; 0 for a dropped connection
        """
        self.requests[method, path, status] += 1
        if len(self.requests) > _MAX_COUNTED:
            del self.requests[next(iter(self.requests))]

    def counted_requests(self) -> list[dict[str, Any]]:
        """Return the number of requests by method, path and status."""
        return [
            {"method": method, "path": path, "status": status, "count": count}
            for (method, path, status), count in sorted(self.requests.items())
        ]


class FaultMiddleware:
    """ASGI middleware that adds a request id to each response, counts requests and injects faults.

    :param drop: closes the connection of a client address
    """

    def __init__(self, app: ASGIApp, faults: FaultRegistry, drop: Callable[[Any], None]) -> None:
        self._app = app
        self._faults = faults
        self._drop = drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["path"].startswith(_ADMIN_PREFIX):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        statuses: list[int] = []

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                request_id = (b"x-aws-request-id", str(uuid.uuid4()).encode())
                message = {**message, "headers": [*message.get("headers", []), request_id]}
            await send(message)

        try:
            fault = self._faults.take(method, path)
            if fault is None:
                await self._app(scope, receive, send_with_id)
            else:
                await self._inject(fault, scope, receive, send_with_id)
        finally:
            self._faults.count(method, path, statuses[0] if statuses else 0)

    async def _inject(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.action == "fail_copy":
            await self._app({**scope, "dss.fail_copy": fault.status or 422}, receive, send)
            return
        if fault.action == "fail_checkout":
            await self._app({**scope, "dss.fail_checkout": True}, receive, send)
            return
        response: list[Message] = []

        async def buffer(message: Message) -> None:
            response.append(message)

        if fault.after:
            await self._app(scope, receive, buffer)
        if fault.action == "slow":
            await asyncio.sleep(fault.seconds)
            if not fault.after:
                await self._app(scope, receive, send)
            for message in response:
                await send(message)
        elif fault.action == "drop":
            self._drop(scope["client"])
            await asyncio.sleep(0)  # otherwise uvicorn logs an error about the missing response
        elif fault.action == "read_only":
            status, body, retry_after = read_only_error(scope["method"], scope["path"])
            await _send_error(send, status, body, retry_after)
        else:
            status = fault.status or 503
            await _send_error(send, status, {} if scope["method"] == "HEAD" else fault_body(status), fault.retry_after)


async def _send_error(send: Send, status: int, content: dict[str, Any], retry_after: float | None) -> None:
    body = json.dumps(content).encode() if content else b""
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", f"{retry_after:g}".encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
