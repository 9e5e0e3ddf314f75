"""Faults between client and DSS, and the spec of the errors that they lead to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_hca import exceptions
from airflow_provider_hca.exceptions import ConnectionFailure, DSSError

Applied = Literal["no", "yes", "late"]
Form = Literal["problem", "connexion", "bare", "message", "html", "empty"]

_APPLIED: tuple[Applied, ...] = ("no", "yes", "late")
LATE = 28.0  # seconds from the request; the code of a DSS ends at most 5 s after its gateway has given up
_NOT_SENT = frozenset({"dns", "refused", "connect timeout"})
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_CURABLE = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """Event that happens to a request.

    :ivar kind: Name, for the statistics
    :ivar status: Status of the response; 0 without response
    :ivar connection: Kind of the connection error if there is no response
    :ivar applied: Whether the DSS processes the request: not, before the response is lost, or some seconds later
    :ivar seconds: Time until the client notices
    :ivar times: Number of requests
    :ivar restart: Whether the DSS restarts
    :ivar kill: Whether the client is killed
    :ivar only: Method of the request; any if empty
    """

    kind: str
    status: int = 0
    connection: ConnectionFailure = "dropped"
    code: str = ""
    form: Form = "problem"
    retry_after: float | None = None
    applied: Applied = "no"
    seconds: float = 0.02
    times: int = 1
    restart: bool = False
    kill: bool = False
    only: str = ""

    def __repr__(self) -> str:
        return f"<{self.kind}>"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(repr(self))

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the response."""
        headers = {"content-type": "application/problem+json", "x-aws-request-id": "fault"}
        if self.retry_after is not None:
            headers["retry-after"] = f"{self.retry_after:g}"
        title = "Injected"
        bodies: dict[Form, Any] = {
            "problem": {"status": self.status, "code": self.code or "injected", "title": title, "stacktrace": ""},
            "connexion": {"type": "about:blank", "title": title, "detail": self.code or title, "status": self.status},
            "bare": {"Code": "InternalServerError", "Message": title},
            "message": {"message": title},
        }
        body = json.dumps(bodies[self.form]).encode() if self.form in bodies else b""
        if self.form == "html":
            body = b"<html><head><title>Injected</title></head></html>"
            headers["content-type"] = "text/html"
        return self.status, headers, body


def _transient() -> list[Fault]:
    faults = [
        Fault("500", 500),
        Fault("500 of the gateway", 500, form="message", seconds=10.0),
        Fault("500 after it was applied", 500, form="bare", applied="yes"),
        Fault("500 with Retry-After", 500, retry_after=10.0),
        Fault("502", 502, form="html"),
        Fault("502 after it was applied", 502, form="html", applied="yes"),
        Fault("503", 503, code="unavailable", retry_after=2.0),
        Fault("503 read-only", 503, code="read_only", retry_after=10.0),
        Fault("503 after it was applied", 503, form="empty", applied="yes"),
        Fault("504", 504, code="timed_out", seconds=25.0),
        Fault("504 after it was applied", 504, code="timed_out", applied="yes", seconds=25.0),
        Fault("504 before it is applied", 504, code="timed_out", applied="late", seconds=25.0),
        Fault("429", 429, form="message", retry_after=1.0),
        Fault("429 without Retry-After", 429, form="message"),
        Fault("refused", connection="refused"),
        Fault("dns", connection="dns"),
        Fault("connect timeout", connection="connect timeout", seconds=10.0),
        Fault("dropped", connection="dropped"),
        Fault("dropped after it was applied", connection="dropped", applied="yes"),
        Fault("dropped before it is applied", connection="dropped", applied="late"),
        Fault("read timeout", connection="read timeout", seconds=40.0),
        Fault("read timeout after it was applied", connection="read timeout", applied="yes", seconds=40.0),
        Fault("tls", connection="tls"),
        Fault("slow", applied="yes", seconds=30.0, connection="dropped"),
        Fault("restart", connection="dropped", restart=True),
        Fault("restart after it was applied", connection="dropped", applied="yes", restart=True),
    ]
    outages = [
        replace(fault, kind=f"outage: {fault.kind}", times=times)
        for fault, times in ((faults[0], 3), (faults[0], 30), (faults[3], 9), (faults[6], 4), (faults[9], 4))
    ]
    outages += [
        replace(fault, kind=f"outage: {fault.kind}", times=times)
        for fault, times in ((faults[10], 3), (faults[13], 12), (faults[14], 8), (faults[17], 30), (faults[20], 3))
    ]
    return faults + outages


# Each is answered by 4xx or 5xx that no retry cures, or that only the caller may repeat.
_REFUSED = (400, 402, 403, 405, 406, 408, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428)
_FAILED = (431, 451, 501, 505, 506, 507, 508, 510, 511, 599)


def _final() -> list[Fault]:
    forms: tuple[Form, ...] = ("problem", "connexion", "problem")
    faults = [Fault(str(status), status, form=forms[status % 3]) for status in (*_REFUSED, *_FAILED)]
    return [
        *faults,
        Fault("401", 401, code="Unauthorized"),
        Fault("401 twice", 401, code="Unauthorized", times=2),
        Fault("403 without route", 403, form="message"),
        Fault("405 without route", 405, form="html"),
        Fault("500 forbidden", 500, form="connexion", code=_refusal("forbidden")),
        Fault("500 read-only", 500, form="connexion", code=_refusal("read_only")),
        Fault("501 after it was applied", 501, applied="yes"),
        Fault("204", 204, form="empty"),
        Fault("300", 300, form="html"),
        Fault("304", 304, form="empty"),
    ]


def _refusal(code: str) -> str:
    return f"Response body does not conform to specification: '{code}' is not one of ['Forbidden', 'not_found']"


TRANSIENT = _transient()
FINAL = _final()
# A success, but not one that a PATCH has.
UNUSUAL = [
    Fault(f"{status} to PATCH, applied: {applied}", status, form="message", applied=applied, only="PATCH")
    for status in (200, 201, 202)
    for applied in _APPLIED
]
LATE_PATCH = [replace(fault, only="PATCH") for fault in TRANSIENT if fault.applied == "late"]
# Each at the PATCH of a change, not at the requests before it.
PATCH = [replace(fault, only="PATCH") for fault in (*TRANSIENT, *FINAL)]
# A call succeeds if one of these is its only fault.
SURVIVED = [*(fault for fault in TRANSIENT if fault.times == 1), *UNUSUAL]
KILLS = [
    Fault("client killed", kill=True),
    Fault("client killed after it was applied", kill=True, applied="yes"),
    Fault("client killed before it is applied", kill=True, applied="late"),
]
KILLED_PATCH = [replace(fault, only="PATCH") for fault in KILLS]
SLOW = "slow"  # the one fault whose response arrives


@dataclass(frozen=True, slots=True)
class Seen:
    """Part of an exchange that a client sees: a response, or the kind of a connection error.

    :ivar status: Status; 0 for a connection error
    :ivar unusual: Whether it is a success that a DSS does not answer
    """

    method: str
    status: int
    connection: str = ""
    code: str = ""
    known_form: bool = True
    message: str = ""
    retry_after: float | None = None
    unusual: bool = False

    @classmethod
    def of(cls, method: str, status: int, headers: Mapping[str, str], body: bytes) -> Seen:
        """Return what a client sees of a response."""
        try:
            value = json.loads(body)
        except ValueError:
            value = {}
        after = headers.get("retry-after")
        code = str(value.get("code") or value.get("Code") or "")
        for refused in ("forbidden", "read_only", "file_missing"):
            if status == 500 and f"'{refused}' is not one of" in str(value.get("detail")):
                code = refused
        known = bool({"status", "code", "title"} & set(value))
        message = str(value.get("message") or "")
        unusual = 200 <= status < 300 and status not in {200, 201, 202, 206}
        unusual |= method == "PATCH" and 200 <= status < 300 and "version" not in value
        return cls(method, status, "", code, known, message, float(after) if after else None, unusual)

    @property
    def is_transient(self) -> bool:
        """True if an idempotent request must be repeated."""
        if not self.status:
            return True
        return self.status in _TRANSIENT and self.code not in {"forbidden", "file_missing"}

    @property
    def is_unclear(self) -> bool:
        """True if the DSS may have applied the request."""
        if not self.status:
            return self.connection not in _NOT_SENT
        return self.unusual or (self.status >= 500 and self.code not in {"read_only", "forbidden", "file_missing"})

    def error(self, *, content: bool = False) -> tuple[type[DSSError], bool]:
        """Return class and permanence of the error that it leads to.

        :param content: Whether it is the response of an object store
        """
        if not self.status:
            return exceptions.DSSConnectionError, False
        if self.status < 400:
            return exceptions.DSSProtocolError, not self.unusual
        no_route = self.status in {404, 405} and not self.known_form
        if not content and self.method != "HEAD" and (no_route or self.message == "Missing Authentication Token"):
            return exceptions.DSSProtocolError, True
        kinds: dict[int, type[DSSError]] = {
            401: exceptions.DSSAuthError,
            403: exceptions.DSSAuthError,
            404: exceptions.DSSNotFoundError,
            409: exceptions.DSSConflictError,
        }
        kind = kinds.get(403 if self.code == "forbidden" else self.status, exceptions.DSSResponseError)
        refused = 400 <= self.status < 500 and self.status not in _CURABLE and self.code != "file_missing"
        return kind, refused or self.code == "forbidden"
