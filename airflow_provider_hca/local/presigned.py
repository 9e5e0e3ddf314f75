"""Presigned URLs, and the server for them, which behaves like an object store on another origin."""

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from .blob_store import BlobStore
from .journals import MAX_EVENTS, Journals

_LIFETIME = 3600  # seconds
_ACCESS_IDS = {"aws": "AWSAccessKeyId", "gcp": "GoogleAccessId"}


@dataclass(frozen=True, repr=False)
class Presigner:
    """Create and verify presigned URLs. It has no repr, so that the secret cannot be logged."""

    origin: str
    secret: str

    def url(self, replica: str, sha256: str, content_type: str, disposition: str | None = None) -> str:
        """Return the presigned URL of a content, valid for an hour.

        :param replica: replica, whose store has its own name for the signer
        :param sha256: checksum of the content
        :param content_type: Content-Type of the response
        :param disposition: Content-Disposition of the response
        """
        query = {"response-content-type": content_type}
        if disposition:
            query["response-content-disposition"] = disposition
        return self._signed(replica, f"/blobs/{sha256}", query)

    def journal_url(self, replica: str, first: int, last: int) -> str:
        """Return the presigned URL of a journal, valid for an hour.

        :param first: time of the first event in microseconds since 1970
        :param last: time of the last event in microseconds since 1970
        """
        return self._signed(replica, f"/journals/{replica}/{first}/{last}", {})

    def _signed(self, replica: str, path: str, query: dict[str, str]) -> str:
        query[_ACCESS_IDS[replica]] = "dss-local"
        query["Expires"] = str(int(time.time()) + _LIFETIME)
        query["Signature"] = self.sign(path, query)
        return f"{self.origin}{path}?{urlencode(query)}"

    def sign(self, path: str, query: dict[str, str]) -> str:
        """Return the signature of a path and a query.

        :param query: query without the signature
        """
        text = "\n".join([path, *(f"{name}={query[name]}" for name in sorted(query))])
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _error(status: int, code: str, message: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(text, status, media_type="application/xml")


def objects_app(presigner: Presigner, blobs: BlobStore, journals: Journals) -> FastAPI:
    """Return the application that serves file contents and journals by presigned URL."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.api_route("/blobs/{sha256}", methods=["GET", "HEAD"])
    def content(sha256: str, request: Request) -> Response:
        query = dict(request.query_params)
        error = _authorization_error(presigner, request, query)
        if error:
            return error
        path = blobs.path(sha256)
        if not path.exists():
            return _error(404, "NoSuchKey", "The content does not exist")
        disposition = query.get("response-content-disposition")
        if disposition and not re.fullmatch(r"[ -~\xa0-\xff]*", disposition):
            return _error(400, "InvalidArgument", "Header value cannot be represented using ISO-8859-1.")
        headers = {"Content-Disposition": disposition} if disposition else {}
        return FileResponse(path, media_type=query["response-content-type"], headers=headers)

    @app.api_route("/journals/{replica}/{first}/{last}", methods=["GET", "HEAD"])
    def journal(replica: str, first: int, last: int, request: Request) -> Response:
        error = _authorization_error(presigner, request, dict(request.query_params))
        if error:
            return error
        events = journals.events.between(replica, first, last + 1, MAX_EVENTS)
        # Written to a file because FileResponse supports ranges.
        path = blobs.write_temporary(b"".join(journals.content(events)))
        return FileResponse(path, media_type="application/octet-stream", background=BackgroundTask(path.unlink))

    return app


def _authorization_error(presigner: Presigner, request: Request, query: dict[str, str]) -> Response | None:
    """Return the error for a request without a valid signature, or with a token besides, as S3 does."""
    signature = query.pop("Signature", "")
    if "authorization" in request.headers:
        return _error(400, "InvalidArgument", "Only one auth mechanism allowed")
    if not hmac.compare_digest(signature.encode(), presigner.sign(request.url.path, query).encode()):
        return _error(403, "SignatureDoesNotMatch", "The signature does not match the URL")
    if int(query["Expires"]) < time.time():
        return _error(403, "AccessDenied", "Request has expired")
    return None
