"""The other origin: contents by presigned URL, with the manners of an object store."""

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from .blob_store import Blobs
from .journals import LENGTH, Journals

_LIFETIME = 3600


@dataclass(frozen=True, repr=False)
class Presigner:
    """Makes and checks URLs that are their own permission. Not printable: no repr."""

    origin: str
    secret: str

    def url(self, sha256: str, content_type: str, disposition: str | None = None) -> str:
        """Return a URL from which the content can be had for an hour.

        :param sha256: the checksum of the content
        :param content_type: the content type it is to come with
        :param disposition: the Content-Disposition it is to come with
        """
        query = {"response-content-type": content_type}
        if disposition:
            query["response-content-disposition"] = disposition
        return self._signed(f"/blobs/{sha256}", query)

    def journal_url(self, replica: str, first: int, last: int) -> str:
        """Return a URL from which the content of a journal can be had for an hour.

        :param replica: whose events
        :param first: the time of the first of them, in microseconds since 1970
        :param last: the time of the last of them
        """
        return self._signed(f"/journals/{replica}/{first}/{last}", {})

    def _signed(self, path: str, query: dict[str, str]) -> str:
        query["Expires"] = str(int(time.time()) + _LIFETIME)
        query["Signature"] = self.sign(path, query)
        return f"{self.origin}{path}?{urlencode(query)}"

    def sign(self, path: str, query: dict[str, str]) -> str:
        """Return the signature that belongs to a path and a query.

        :param path: the path of the URL
        :param query: the query without the signature
        """
        text = "\n".join([path, *(f"{name}={query[name]}" for name in sorted(query))])
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _refusal(status: int, code: str, message: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(text, status, media_type="application/xml")


def objects_app(presigner: Presigner, blobs: Blobs, journals: Journals) -> FastAPI:
    """Return the application that serves contents.

    :param presigner: checks the URLs
    :param blobs: the contents of files
    :param journals: those of journals
    """
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.api_route("/blobs/{sha256}", methods=["GET", "HEAD"])
    def content(sha256: str, request: Request) -> Response:
        query = dict(request.query_params)
        refused = _refused(presigner, request, query)
        if refused:
            return refused
        path = blobs.path(sha256)
        if not path.exists():
            return _refusal(404, "NoSuchKey", "There is no such content")
        disposition = query.get("response-content-disposition")
        if disposition and not re.fullmatch(r"[ -~\xa0-\xff]*", disposition):
            return _refusal(400, "InvalidArgument", "Header value cannot be represented using ISO-8859-1.")
        headers = {"Content-Disposition": disposition} if disposition else {}
        return FileResponse(path, media_type=query["response-content-type"], headers=headers)

    @app.api_route("/journals/{replica}/{first}/{last}", methods=["GET", "HEAD"])
    def journal(replica: str, first: int, last: int, request: Request) -> Response:
        refused = _refused(presigner, request, dict(request.query_params))
        if refused:
            return refused
        events = journals.events.between(replica, first, last + 1, LENGTH)
        # Written to a file, because a response of a file knows what to do with a range.
        path = blobs.scratch(b"".join(journals.content(events)))
        return FileResponse(path, media_type="application/octet-stream", background=BackgroundTask(path.unlink))

    return app


def _refused(presigner: Presigner, request: Request, query: dict[str, str]) -> Response | None:
    """Return the refusal of a request whose URL does not permit it, or that brings a permission besides."""
    signature = query.pop("Signature", "")
    if "authorization" in request.headers:
        return _refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
    if not hmac.compare_digest(signature.encode(), presigner.sign(request.url.path, query).encode()):
        return _refusal(403, "SignatureDoesNotMatch", "The signature is not the one that belongs to this URL")
    if int(query["Expires"]) < time.time():
        return _refusal(403, "AccessDenied", "Request has expired")
    return None
