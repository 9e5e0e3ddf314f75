"""The calls about files: register, look up, wait for, download."""

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
from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import FileMetadata, PutFile, check_sha256, replica_of
from airflow_provider_hca.client.retry import RETRIED
from airflow_provider_hca.client.sansio import Call, Request, Response, json_object, pause, target
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
_FOUND = frozenset({302, 303, 307})
_NOT_YET = 301  # to itself, with `Retry-After`
_CONTENT = frozenset({200, 206})
_EXPIRED = frozenset({400, 401, 403})
_NO_MORE = 416  # the range begins where the content ends
_POLL_FIRST, _POLL_GROWTH, _POLL_LONGEST = 0.5, 1.5, 30.0


class FileCalls(Calls):
    """The calls about files."""

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
        """Return what the DSS knows of a file, or None when it is not there yet (`HEAD /files/{uuid}`).

        :param uuid: of the file
        :param replica: `aws` or `gcp`
        :param version: of the file; the latest if None
        :param sha256: of the content that was staged, if that is to be compared: an asynchronous PUT that conflicts
            also answers 202, and its copy is dropped
        :raises DSSConflictError: when the stored content is another
        :raises DSSCopyError: when an asynchronous copy failed
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
                f"version {metadata.version} exists with sha256 {metadata.sha256}, and {sha256} was to be stored: the "
                "content changed, so it needs another version",
                response.headers.get("x-aws-request-id", ""),
            )
        return metadata

    def wait_for_file(
        self, uuid: str, version: str, *, replica: str, sha256: str, seconds: float
    ) -> Call[FileMetadata]:
        """Wait until an asynchronous copy (`PUT /files` answered 202) is done, and compare its checksum."""
        deadline, delay = time.monotonic() + seconds, _POLL_FIRST
        while True:
            found = yield from self.find_file(uuid, replica=replica, version=version, sha256=sha256)
            if found is not None:
                return found
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise late_copy(uuid, version)
            yield pause(min(delay, remaining))
            delay = min(_POLL_LONGEST, delay * _POLL_GROWTH)

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
        """Download what is missing of a file (`GET /files/{uuid}`), and check the whole; see `get_file`.

        :param content: what has come of it so far, and where the rest goes
        :param wait: whether to wait until the DSS has made a copy to download from, which the first question for a file
            has it begin
        :raises NotReadyError: when not to wait, and there is none yet
        """
        request = self._file_request("GET", uuid, replica, version)
        attempt, started = 1, 0.0
        while True:
            # Again after each failure: where the content is to be had is told for a limited time.
            metadata, where = yield from self._locate(request, replica, wait=wait)
            known = content.size
            if known >= metadata.size:
                break
            if attempt == 1:
                started = time.monotonic()  # not before: a checkout may take longer than one goes on
            try:
                yield from self._fetch(where, metadata, content)
                break
            except (DSSConnectionError, DSSResponseError) as error:
                if content.size > known:
                    attempt, started = 1, time.monotonic()
                delay = self._delay(error, attempt, time.monotonic() - started)
                if delay is None:
                    raise
                log.warning("%s. Going on behind byte %s in %.1f s", error, f"{content.size:,}", delay)
                attempt += 1
                request = replace(self._file_request("GET", uuid, replica, metadata.version), delay=delay)
        content.check(metadata)
        return metadata

    def _fetch(self, where: Request, file: FileMetadata, content: Content) -> Call[None]:
        """Ask once for what is missing of a file, and take what comes."""
        known = content.size
        request = replace(where, headers=content.headers, receive=partial(content.receive, file))
        try:
            yield from self._exchange.send(request, accept=_CONTENT, repeatable=False)
        except DSSResponseError as error:
            if error.status != _NO_MORE:
                raise
            return  # the check of the whole tells that it is too short
        if known < content.size < file.size:
            # An answer without a length breaks off like this, and before urllib3 2 every one does.
            raise DSSConnectionError(request.method, request.origin, request.path, "dropped")

    def _delay(self, error: DSSConnectionError | DSSResponseError, attempt: int, elapsed: float) -> float | None:
        """Return the seconds to wait before content is asked for again, or None to give up."""
        if isinstance(error, DSSConnectionError):
            return self.retry.delay(attempt, elapsed, None)
        expired = error.status in _EXPIRED and attempt == 1
        if not expired and error.status not in RETRIED:
            return None
        return self.retry.delay(attempt, elapsed, error.retry_after)

    def _locate(self, request: Request, replica: str, *, wait: bool) -> Call[tuple[FileMetadata, Request]]:
        """Wait until a file can be downloaded; return what it is, and how to ask for its content."""
        response = yield from self._exchange.send(request, accept=_FOUND if wait else _FOUND | {_NOT_YET})
        if response.status == _NOT_YET:
            raise NotReadyError(f"{request.method} {request.path}: not ready for download yet")
        where = replace(request, url=target(request, response.headers.get("location", "")), delay=0.0)
        if "x-dss-sha256" in response.headers:
            return _file_metadata(request, response), where
        # As a store in between may leave them out. The latest version may be another by now; then the sums tell.
        version = dict(parse_qsl(urlsplit(request.url).query)).get("version")
        return (yield from self.head_file(request.path.rsplit("/", 1)[-1], replica=replica, version=version)), where

    def _file_request(self, method: str, uuid: str, replica: str, version: str | None) -> Request:
        return self._request(
            method, f"/files/{check_uuid(uuid, 'file uuid')}", replica_and_version(replica, version, "file")
        )


def late_copy(uuid: str, version: str) -> DSSCopyError:
    """Return the error of a copy that takes too long."""
    return DSSCopyError(
        uuid,
        version,
        "deadline",
        "the DSS accepted it and has not stored it in time: give it a longer copy_timeout, or ask the operator of the "
        "DSS whether its copies are running",
    )


def _copy_failure(uuid: str, version: str, error: DSSResponseError) -> DSSCopyError:
    heard = f"HEAD answers {error.status}, request id {error.request_id}"
    if error.status == 422:
        why = "its checksums do not match, or above 64 MiB its parts are not 64 MiB"
        return DSSCopyError(uuid, version, "failed", f"the DSS could not copy the staged object ({heard}): {why}")
    # A DSS answers like this for ever after some copies that broke, and for a while when it is in trouble.
    return DSSCopyError(uuid, version, "unclear", f"the copy broke, or the DSS is in trouble ({heard})")


def _file_metadata(request: Request, response: Response) -> FileMetadata:
    headers = response.headers
    try:
        return FileMetadata(
            uuid=request.path.rsplit("/", 1)[-1],
            version=headers["x-dss-version"],
            content_type=headers["x-dss-content-type"],
            size=int(headers["x-dss-size"]),
            creator_uid=int(headers["x-dss-creator-uid"]),
            sha256=headers["x-dss-sha256"].lower(),  # it is compared; and it was tagged by whoever staged the file
            sha1=headers["x-dss-sha1"],
            s3_etag=headers["x-dss-s3-etag"],
            crc32c=headers["x-dss-crc32c"],
        )
    except (KeyError, ValueError) as error:
        raise DSSProtocolError(f"{request.method} {request.path}: header missing or wrong: {error}") from None
