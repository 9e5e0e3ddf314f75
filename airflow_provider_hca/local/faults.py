"""Failing on demand, and counting what came in."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .errors import fault_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CONTROL = "/_local/"
_MAX_COUNTED = 50_000  # different requests that are counted, of some 300 bytes each


class Fault(BaseModel):
    """What shall go wrong with the next requests that match."""

    model_config = ConfigDict(extra="forbid")

    method: str = "*"
    path: str = ""  # a regular expression, searched for in the path of the URL
    times: int = Field(default=1, ge=1)
    action: Literal["status", "drop", "slow", "fail_copy", "fail_checkout"] = "status"
    status: int | None = Field(default=None, ge=200, le=599)  # by default 503; of fail_copy 422
    retry_after: float | None = None
    seconds: float = Field(default=1.0, ge=0)
    after: bool = False  # do the work first, and only then let the answer go wrong

    @field_validator("path")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is meant.

        :param method: its method
        :param path: the path of its URL
        """
        return self.method.upper() in {"*", method} and re.search(self.path, path) is not None


@dataclass
class FaultBook:
    """The faults that are left, and the requests seen. Used from the event loop only."""

    faults: list[Fault] = field(default_factory=list)
    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault that matches, used once more.

        :param method: the method of the request
        :param path: its path
        """
        for fault in self.faults:
            if fault.matches(method, path):
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None

    def count(self, method: str, path: str, status: int) -> None:
        """Count a request. Only the latest are kept, so that the memory stays small.

        :param method: its method
        :param path: its path
        :param status: of the answer; 0 of a dropped connection
        """
        self.requests[method, path, status] += 1
        if len(self.requests) > _MAX_COUNTED:
            del self.requests[next(iter(self.requests))]

    def seen(self) -> list[dict[str, Any]]:
        """Return the requests counted by method, path and status; 0 is a dropped connection."""
        return [
            {"method": method, "path": path, "status": status, "count": count}
            for (method, path, status), count in sorted(self.requests.items())
        ]


class FaultyFront:
    """The outermost layer: gives each request an id, counts it, and lets it fail when that is its turn."""

    def __init__(self, app: ASGIApp, book: FaultBook, drop: Callable[[Any], None]) -> None:
        self._app = app
        self._book = book
        self._drop = drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI has it."""
        if scope["type"] != "http" or scope["path"].startswith(_CONTROL):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        statuses: list[int] = []

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                name_and_id = (b"x-aws-request-id", str(uuid.uuid4()).encode())
                message = {**message, "headers": [*message.get("headers", []), name_and_id]}
            await send(message)

        try:
            fault = self._book.take(method, path)
            if fault is None:
                await self._app(scope, receive, send_on)
            else:
                await self._fail(fault, scope, receive, send_on)
        finally:
            self._book.count(method, path, statuses[0] if statuses else 0)

    async def _fail(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.action == "fail_copy":
            await self._app({**scope, "dss.fail_copy": fault.status or 422}, receive, send)
            return
        if fault.action == "fail_checkout":
            await self._app({**scope, "dss.fail_checkout": True}, receive, send)
            return
        answer: list[Message] = []

        async def hold(message: Message) -> None:
            answer.append(message)

        if fault.after:
            await self._app(scope, receive, hold)
        if fault.action == "slow":
            await asyncio.sleep(fault.seconds)
            if not fault.after:
                await self._app(scope, receive, send)
            for message in answer:
                await send(message)
        elif fault.action == "drop":
            self._drop(scope["client"])
            await asyncio.sleep(0)  # lets the server notice, which would otherwise complain of a missing answer
        else:
            await _answer(send, fault, scope["method"])


async def _answer(send: Send, fault: Fault, method: str) -> None:
    status = fault.status or 503
    body = b"" if method == "HEAD" else json.dumps(fault_body(status)).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if fault.retry_after is not None:
        headers.append((b"retry-after", f"{fault.retry_after:g}".encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
