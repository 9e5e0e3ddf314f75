"""File calls: register, look up, wait for copies, download."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_hca.client.api.base import Calls, replica_and_version
from airflow_provider_hca.client.downloads import Content, NotReadyError, Writable, whole_file
from airflow_provider_hca.client.identifiers import check_sha256, check_uuid, check_version
from airflow_provider_hca.client.models import FileMetadata, PutFile, replica_of
from airflow_provider_hca.client.retry import RETRIED_STATUSES
from airflow_provider_hca.client.sansio import Call, Request, Response, json_object, pause, resolve
from airflow_provider_hca.exceptions import (
    DSSConflictError,
    DSSConnectionError,
    DSSCopyError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

log = logging.getLogger(__name__)

_ACCEPTED = frozenset({200, 201, 202})
_LOCATED = frozenset({302, 303, 307})
_NOT_READY = 301  # a redirect to itself, with `Retry-After`
_CONTENT = frozenset({200, 206})
_EXPIRED = frozenset({400, 401, 403})  # an object store's responses to an expired URL
_NO_RANGE = 416  # the range starts at the end of the content
_FIRST_INTERVAL, _INTERVAL_GROWTH, _MAX_INTERVAL = 0.5, 1.5, 30.0  # seconds


class FileCalls(Calls):
    """File calls."""

    def put_file(self, uuid: str, version: str, *, source_url: str, creator_uid: int | None = None) -> Call[PutFile]:
        """Register a staged object as a version of a file (`PUT /files/{uuid}`)."""
        uuid, version = check_uuid(uuid, "file uuid"), check_version(version, "file version")
        replica_of(source_url)
        creator = self.creator_uid if creator_uid is None else creator_uid
        body = {"source_url": source_url, "creator_uid": creator}
        request = self._request("PUT", f"/files/{uuid}", {"version": version}, body)
        response = yield from self._exchange.send(request, accept=_ACCEPTED, authorize=True)
        stored = json_object(request, response).get("version", version)
        outcome: dict[int, Literal["created", "identical", "copying"]]
        outcome = {200: "identical", 201: "created", 202: "copying"}
        return PutFile(uuid, str(stored), outcome[response.status])

    def head_file(self, uuid: str, *, replica: str, version: str | None = None) -> Call[FileMetadata]:
        """Return the metadata of a file (`HEAD /files/{uuid}`)."""
        request = self._file_request("HEAD", uuid, replica, version)
        return _file_metadata(request, (yield from self._exchange.send(request)))

    def find_file(
        self, uuid: str, *, replica: str, version: str | None = None, sha256: str | None = None
    ) -> Call[FileMetadata | None]:
        """Return the metadata of a file, or None if it does not exist, or not yet (`HEAD /files/{uuid}`).

        :param uuid: UUID of the file
        :param replica: `aws` or `gcp`
        :param version: Version of the file; the latest if None
        :param sha256: SHA-256 to compare with the stored content; not compared if None. An asynchronous PUT with other
            content than the stored is answered with 202 too, and its copy is dropped
        :raises DSSConflictError: if the stored content has another SHA-256
        :raises DSSCopyError: if an asynchronous copy failed
        """
        sha256 = None if sha256 is None else check_sha256(sha256)
        request = self._file_request("HEAD", uuid, replica, version)
        try:
            response = yield from self._exchange.send(request)
        except DSSNotFoundError:
            return None
        except DSSResponseError as error:
            if error.status not in {422, 500}:
                raise
            raise _copy_failure(uuid, version or "latest", error) from None
        metadata = _file_metadata(request, response)
        if sha256 is not None and metadata.sha256 != sha256:
            raise DSSConflictError(
                request.method,
                request.path,
                409,
                "file_already_exists",
                f"version {metadata.version} exists with sha256 {metadata.sha256}, expected {sha256}: changed content "
                "needs another version",
                response.headers.get("x-aws-request-id", ""),
            )
        return metadata

    def wait_for_file(
        self, uuid: str, version: str, *, replica: str, sha256: str, seconds: float
    ) -> Call[FileMetadata]:
        """Wait until an asynchronous copy (`PUT /files` answered 202) is done, and compare its checksum."""
        deadline, interval = time.monotonic() + seconds, _FIRST_INTERVAL
        while True:
            metadata = yield from self.find_file(uuid, replica=replica, version=version, sha256=sha256)
            if metadata is not None:
                return metadata
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise DSSCopyError.late(uuid, version)
            yield pause(min(interval, remaining))
            interval = min(_MAX_INTERVAL, interval * _INTERVAL_GROWTH)

    def get_file(
        self, uuid: str, *, replica: str, version: str | None = None, to: str | Path | Writable
    ) -> Call[FileMetadata]:
        """Download a file as a stream (`GET /files/{uuid}`) and verify its SHA-256."""
        with ExitStack() as files:
            if isinstance(to, str | Path):
                to = files.enter_context(whole_file(Path(to)))
            content = Content(to)
            return (yield from self.get_content(uuid, replica=replica, version=version, content=content))

    def get_content(
        self, uuid: str, *, replica: str, version: str | None = None, content: Content, wait: bool = True
    ) -> Call[FileMetadata]:
        """Download the remaining content of a file (`GET /files/{uuid}`) and verify the whole; see `get_file`.

        :param content: Content received so far, to which the rest is added
        :param wait: Whether to wait until the DSS has created the copy to download from; the first request for a file
            starts that
        :raises NotReadyError: if there is no copy yet and `wait` is False
        """
        request = self._file_request("GET", uuid, replica, version)
        attempt, started = 1, 0.0
        while True:
            # Again after each failure: the location of the content expires.
            metadata, location = yield from self._locate(request, replica, wait=wait)
            known = content.size
            if known >= metadata.size:
                break
            if attempt == 1:
                started = time.monotonic()  # not before: a checkout may take longer than the policy allows
            try:
                yield from self._fetch(location, metadata, content)
                break
            except (DSSConnectionError, DSSResponseError) as error:
                if content.size > known:
                    attempt, started = 1, time.monotonic()
                delay = self._delay(error, attempt, time.monotonic() - started)
                if delay is None:
                    raise
                log.warning("%s. Resuming at byte %s in %.1f s", error, f"{content.size:,}", delay)
                attempt += 1
                request = replace(self._file_request("GET", uuid, replica, metadata.version), delay=delay)
        content.check(metadata)
        return metadata

    def _fetch(self, location: Request, file: FileMetadata, content: Content) -> Call[None]:
        """Request the remaining content once."""
        known = content.size
        request = replace(location, headers=content.headers, receive=partial(content.receive, file))
        try:
            yield from self._exchange.send(request, accept=_CONTENT, repeatable=False)
        except DSSResponseError as error:
            if error.status != _NO_RANGE:
                raise
            return  # the check of the whole content will fail
        if known < content.size < file.size:
            # a response without a length, in which the connection broke
            raise DSSConnectionError(request.method, request.origin, request.path, "dropped")

    def _delay(self, error: DSSConnectionError | DSSResponseError, attempt: int, elapsed: float) -> float | None:
        """Return the delay before the content is requested again in seconds, or None to give up."""
        if isinstance(error, DSSConnectionError):
            return self.retry.delay(attempt, elapsed, None)
        expired = error.status in _EXPIRED and attempt == 1
        if not expired and error.status not in RETRIED_STATUSES:
            return None
        return self.retry.delay(attempt, elapsed, error.retry_after)

    def _locate(self, request: Request, replica: str, *, wait: bool) -> Call[tuple[FileMetadata, Request]]:
        """Wait until a file can be downloaded; return its metadata and the request for its content."""
        response = yield from self._exchange.send(request, accept=_LOCATED if wait else _LOCATED | {_NOT_READY})
        if response.status == _NOT_READY:
            raise NotReadyError(f"{request.method} {request.path}: not ready for download yet")
        location = replace(request, url=resolve(request, response.headers.get("location", "")), delay=0.0)
        if "x-dss-sha256" in response.headers:
            return _file_metadata(request, response), location
        # A server in between may remove the headers. If there is a newer version by now, the checksums will differ.
        version = dict(parse_qsl(urlsplit(request.url).query)).get("version")
        return (yield from self.head_file(request.path.rsplit("/", 1)[-1], replica=replica, version=version)), location

    def _file_request(self, method: str, uuid: str, replica: str, version: str | None) -> Request:
        return self._request(
            method, f"/files/{check_uuid(uuid, 'file uuid')}", replica_and_version(replica, version, "file")
        )


def _copy_failure(uuid: str, version: str, error: DSSResponseError) -> DSSCopyError:
    response = f"HEAD answers {error.status}, request id {error.request_id}"
    if error.status == 422:
        reason = "its checksums do not match, or above 64 MiB its parts are not 64 MiB"
        return DSSCopyError(uuid, version, "failed", f"the DSS could not copy the staged object ({response}): {reason}")
    # A DSS answers 500 permanently after some failed copies, and temporarily during an outage.
    return DSSCopyError(uuid, version, "unclear", f"the copy failed, or the DSS has an outage ({response})")


def _file_metadata(request: Request, response: Response) -> FileMetadata:
    headers = response.headers
    try:
        return FileMetadata(
            uuid=request.path.rsplit("/", 1)[-1],
            version=headers["x-dss-version"],
            content_type=headers["x-dss-content-type"],
            size=int(headers["x-dss-size"]),
            creator_uid=int(headers["x-dss-creator-uid"]),
            sha256=headers["x-dss-sha256"].lower(),  # in the case of the staged object's tag
            sha1=headers["x-dss-sha1"],
            s3_etag=headers["x-dss-s3-etag"],
            crc32c=headers["x-dss-crc32c"],
        )
    except (KeyError, ValueError) as error:
        raise DSSProtocolError(f"{request.method} {request.path}: header missing or invalid: {error}") from None
