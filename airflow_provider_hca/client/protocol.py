"""The calls of the DSS v1 interface, one generator each. No I/O happens here: a transport runs them.

A call yields the requests it wants sent and returns its result, so one description serves the synchronous and the
asynchronous world:

    dss = DSSAPI("https://dss.example.org/v1")
    with RequestsTransport() as transport:
        bundle = transport.run(dss.get_bundle("ce55fd51-7833-469b-be0b-5da88ebebfcd", replica="aws"))
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from airflow_provider_hca.client.exchange import Auth, Exchange, RetryPolicy
from airflow_provider_hca.client.identifiers import check_uuid, check_version, derive_uuid
from airflow_provider_hca.client.messages import (
    Call,
    Request,
    Response,
    json_object,
    next_page,
    origin,
)
from airflow_provider_hca.client.model import (
    Bundle,
    BundleFile,
    FileMetadata,
    PutBundle,
    PutFile,
    bundle_file,
    check_replica,
    replica_of,
)
from airflow_provider_hca.exceptions import (
    DSSConflictError,
    DSSConnectionError,
    DSSCopyError,
    DSSError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)

log = logging.getLogger(__name__)

_STORED = frozenset({200, 201})
_ACCEPTED = frozenset({200, 201, 202})
_PAGE = frozenset({200, 206})
_NO_BUNDLE = derive_uuid("a bundle that nobody makes")
_POLL_FIRST, _POLL_GROWTH, _POLL_LONGEST = 0.5, 1.5, 30.0


class DSSAPI:
    """The calls to one DSS.

    :param url: of its API, with scheme and base path, such as `https://dss.example.org/v1`
    :param auth: where tokens come from (`airflow_provider_hca.client.auth`); None sends none
    :param retry: how long to go on with an idempotent request
    :param connect_timeout: seconds to wait for a connection
    :param read_timeout: seconds to wait for an answer; a DSS's gateway gives up after 25 to 30
    :raises ValueError: when the URL is not one
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Auth | None = None,
        retry: RetryPolicy | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 40.0,
    ) -> None:
        parts = urlsplit(url)
        user = "@" in parts.netloc
        if parts.scheme not in {"http", "https"} or not parts.hostname or user or parts.query or parts.fragment:
            raise ValueError(
                "the address of a DSS is its API's full URL, such as 'https://dss.example.org/v1' (no user, no "
                f"query), not {'(one with a user in it)' if user else url!r}"
            )
        self.url = url.rstrip("/")
        self.auth = auth
        self.retry = retry or RetryPolicy()
        self._exchange = Exchange(origin(url), auth, self.retry)
        self._timeouts = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}

    def __repr__(self) -> str:
        return f"DSSAPI({self.url!r}, auth={self.auth!r})"

    # Files

    def put_file(self, uuid: str, version: str, *, source_url: str, creator_uid: int) -> Call[PutFile]:
        """Register a staged object as a version of a file (`PUT /files/{uuid}`).

        :param uuid: of the file
        :param version: of the file
        :param source_url: `s3://bucket/key` or `gs://bucket/key`, staged with its four checksums
        :param creator_uid: who creates it
        :return: whether it is stored, or being copied: then follow with `wait_for_file`
        :raises DSSConflictError: when that version exists with other content
        """
        uuid, version = check_uuid(uuid, "file uuid"), check_version(version, "file version")
        replica_of(source_url)
        request = self._request("PUT", f"/files/{uuid}", {"version": version}, _body(source_url, creator_uid))
        response = yield from self._exchange.send(request, accept=_ACCEPTED, authorize=True)
        stored = json_object(request, response).get("version", version)
        outcome: dict[int, Literal["created", "identical", "copying"]]
        outcome = {200: "identical", 201: "created", 202: "copying"}
        return PutFile(uuid, str(stored), outcome[response.status])

    def head_file(self, uuid: str, *, replica: str, version: str | None = None) -> Call[FileMetadata]:
        """Return what the DSS knows of a file (`HEAD /files/{uuid}`).

        :param uuid: of the file
        :param replica: `aws` or `gcp`
        :param version: of the file; the latest if None
        :raises DSSNotFoundError: when it is not there, or not yet
        """
        request = self._head_request(uuid, replica, version)
        return _file_metadata(request, (yield from self._exchange.send(request)))

    def wait_for_file(
        self, uuid: str, version: str, *, replica: str, sha256: str, seconds: float
    ) -> Call[FileMetadata]:
        """Wait until an asynchronous copy (`PUT /files` answered 202) is done, and check that it is ours.

        :param uuid: of the file
        :param version: of the file
        :param replica: `aws` or `gcp`
        :param sha256: of the content that was staged: an asynchronous PUT that conflicts also answers 202, and its
            copy is dropped
        :param seconds: how long to wait at most
        :raises DSSConflictError: when the stored content is other than what was staged
        :raises DSSCopyError: when the copy failed or took too long
        """
        request = self._head_request(uuid, replica, version)
        deadline, delay = time.monotonic() + seconds, _POLL_FIRST
        while True:
            try:
                response = yield from self._exchange.send(request)
                break
            except DSSNotFoundError:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise DSSCopyError(
                        uuid,
                        version,
                        "deadline",
                        "the DSS accepted it and has not stored it in time: give it a longer copy_timeout, or ask the "
                        "operator of the DSS whether its copies are running",
                    ) from None
            except DSSResponseError as error:
                if error.status not in {422, 500}:
                    raise
                raise _copy_failure(uuid, version, error) from None
            request = replace(request, delay=min(delay, remaining))
            delay = min(_POLL_LONGEST, delay * _POLL_GROWTH)
        metadata = _file_metadata(request, response)
        if metadata.sha256 != sha256:
            raise DSSConflictError(
                request.method,
                request.path,
                409,
                "file_already_exists",
                f"version {version} exists with sha256 {metadata.sha256}, and {sha256} was to be stored: the content "
                "changed, so it needs another version",
                response.headers.get("x-aws-request-id", ""),
            )
        return metadata

    # Bundles

    def put_bundle(
        self, uuid: str, version: str, *, replica: str, creator_uid: int, files: Iterable[Mapping[str, Any]]
    ) -> Call[PutBundle]:
        """Make a version of a bundle of registered files (`PUT /bundles/{uuid}`).

        A DSS stores a large bundle even when it answers 504, so before failing this looks whether it is there.

        :param uuid: of the bundle
        :param version: of the bundle
        :param replica: `aws` or `gcp`
        :param creator_uid: who creates it
        :param files: the members in a stable order, since a repeat in another order is a conflict; each with `uuid`,
            `version`, `name` and `indexed` (other keys are left out)
        :raises DSSConflictError: when that version exists with another manifest
        """
        uuid, version = check_uuid(uuid, "bundle uuid"), check_version(version, "bundle version")
        members = [bundle_file(file) for file in files]
        query: dict[str, str] = {"version": version, "replica": check_replica(replica)}
        request = self._request("PUT", f"/bundles/{uuid}", query, {"creator_uid": creator_uid, "files": members})
        try:
            response = yield from self._exchange.send(request, accept=_STORED, authorize=True)
        except (DSSConnectionError, DSSResponseError) as error:
            if isinstance(error, DSSResponseError) and error.status < 500:
                raise
            if not (yield from self._is_stored(uuid, version, replica, creator_uid, members)):
                raise
            log.info("the DSS has stored bundle %s.%s, although: %s", uuid, version, error)
            return PutBundle(uuid, version, "created")
        stored = json_object(request, response).get("version", version)
        return PutBundle(uuid, str(stored), "created" if response.status == 201 else "identical")

    def get_bundle(self, uuid: str, *, replica: str, version: str | None = None) -> Call[Bundle]:
        """Return a bundle's manifest, all pages of it (`GET /bundles/{uuid}`).

        :param uuid: of the bundle
        :param replica: `aws` or `gcp`
        :param version: of the bundle; the latest if None
        :raises DSSNotFoundError: when it is not there, or deleted
        """
        request = self._bundle_request(uuid, replica, version, per_page=500)
        pages = yield from self._pages(request)
        bundle = _bundle(request, pages[0])
        if any(_bundle(request, page)["version"] != bundle["version"] for page in pages):
            if version is not None:
                raise DSSProtocolError(f"{request.method} {request.path}: its pages are of different versions")
            # A newer version was made between two pages of the latest one.
            return (yield from self.get_bundle(uuid, replica=replica, version=bundle["version"]))
        for page in pages[1:]:
            bundle["files"].extend(_bundle(request, page)["files"])
        return bundle

    def find_bundle(self, uuid: str, *, replica: str, version: str | None = None) -> Call[str | None]:
        """Return the version of a bundle if it is available in a replica, else None (`GET /bundles/{uuid}`).

        :param uuid: of the bundle
        :param replica: `aws` or `gcp`
        :param version: of the bundle; the latest if None
        :raises DSSError: for anything but "it is there" and "it is not there"
        """
        request = self._bundle_request(uuid, replica, version, per_page=10)
        try:
            response = yield from self._exchange.send(request, accept=_PAGE)
        except DSSNotFoundError:
            return None
        return _bundle(request, json_object(request, response))["version"]

    def get_bundles_all(self, *, replica: str, prefix: str = "", per_page: int = 500) -> Call[list[dict[str, str]]]:
        """Return the `uuid` and `version` of all bundles of a replica (`GET /bundles/all`).

        :param replica: `aws` or `gcp`
        :param prefix: of the uuids
        :param per_page: 10 to 500
        """
        query: dict[str, str] = {"replica": check_replica(replica), "per_page": str(per_page)}
        request = self._request("GET", "/bundles/all", query | ({"prefix": prefix.lower()} if prefix else {}))
        return [bundle for page in (yield from self._pages(request)) for bundle in page.get("bundles", [])]

    # Checks

    def check_reachable(self) -> Call[None]:
        """Ask for a bundle that is not there, which needs no token, to see that this is a DSS (`GET /bundles`)."""
        try:
            yield from self.find_bundle(_NO_BUNDLE, replica="aws")
        except DSSResponseError as error:
            if error.status != 400:  # one without that replica is a DSS too
                raise

    def authenticate(self) -> Call[None]:
        """Have a token made or renewed, if there are credentials; the DSS is not asked.

        :raises DSSCredentialsError: when none can be made
        """
        if self.auth is not None:
            yield from self.auth.token()

    def check_token(self) -> Call[None]:
        """See whether the DSS lets this token register files, and change nothing.

        `GET /collections` wants all that a registration wants. Where it fails, which may have other reasons (a DSS
        without collections, a token without an e-mail), a registration decides that no DSS can take, since its version
        is none.

        :raises DSSAuthError: when the token is missing or refused
        :raises DSSCredentialsError: when none can be made
        """
        yield from self.authenticate()
        query = self._request("GET", "/collections", {"per_page": "10"})
        brief = Exchange(self._exchange.home, self.auth, RetryPolicy(attempts=2, seconds=2))
        try:
            yield from brief.send(query, accept=_PAGE, authorize=True)
        except DSSError as error:
            log.debug("the token was not taken at /collections: %s", error)
        else:
            return
        body = _body("s3://none/none", 0)
        request = self._request("PUT", f"/files/{_NO_BUNDLE}", {"version": "none"}, body)
        yield from self._exchange.send(request, accept=frozenset({400}), authorize=True)

    def _request(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> Request:
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        content = None if body is None else json.dumps(body).encode()
        return Request(method, f"{self.url}{path}?{urlencode(query)}", headers, content, **self._timeouts)

    def _head_request(self, uuid: str, replica: str, version: str | None) -> Request:
        query: dict[str, str] = {"replica": check_replica(replica)}
        if version is not None:
            query["version"] = check_version(version, "file version")
        return self._request("HEAD", f"/files/{check_uuid(uuid, 'file uuid')}", query)

    def _bundle_request(self, uuid: str, replica: str, version: str | None, *, per_page: int) -> Request:
        query: dict[str, str] = {"replica": check_replica(replica), "per_page": str(per_page)}
        if version is not None:
            query["version"] = check_version(version, "bundle version")
        return self._request("GET", f"/bundles/{check_uuid(uuid, 'bundle uuid')}", query)

    def _pages(self, request: Request) -> Call[list[dict[str, Any]]]:
        pages: list[dict[str, Any]] = []
        seen = {request.url}
        while True:
            response = yield from self._exchange.send(request, accept=_PAGE)
            pages.append(json_object(request, response))
            following = next_page(request, response)
            if following is None:
                return pages
            if following in seen:
                raise DSSProtocolError(f"{request.method} {request.path}: its pages go round in a circle")
            seen.add(following)
            request = replace(request, url=following)

    def _is_stored(
        self, uuid: str, version: str, replica: str, creator_uid: int, members: list[BundleFile]
    ) -> Call[bool]:
        try:
            bundle = yield from self.get_bundle(uuid, replica=replica, version=version)
            stored = [bundle_file(file) for file in bundle["files"]]
        except (DSSError, ValueError):
            return False  # the caller has the error that matters
        return stored == members and bundle.get("creator_uid") == creator_uid


def _copy_failure(uuid: str, version: str, error: DSSResponseError) -> DSSCopyError:
    heard = f"HEAD answers {error.status}, request id {error.request_id}"
    if error.status == 422:
        why = "its checksums do not match, or above 64 MiB its parts are not 64 MiB"
        return DSSCopyError(uuid, version, "failed", f"the DSS could not copy the staged object ({heard}): {why}")
    # A DSS answers like this for ever after some copies that broke, and for a while when it is in trouble.
    return DSSCopyError(uuid, version, "unclear", f"the copy broke, or the DSS is in trouble ({heard})")


def _body(source_url: str, creator_uid: int) -> dict[str, Any]:
    return {"source_url": source_url, "creator_uid": creator_uid}


def _bundle(request: Request, answer: dict[str, Any]) -> Bundle:
    bundle = answer.get("bundle")
    bundle = bundle if isinstance(bundle, dict) else {}
    files = bundle.get("files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files) or "version" not in bundle:
        raise DSSProtocolError(f"{request.method} {request.path}: the answer holds no bundle")
    return bundle  # type: ignore[return-value]  # as the interface definition says


def _file_metadata(request: Request, response: Response) -> FileMetadata:
    headers = response.headers
    try:
        return FileMetadata(
            uuid=request.path.rsplit("/", 1)[-1],
            version=headers["x-dss-version"],
            content_type=headers["x-dss-content-type"],
            size=int(headers["x-dss-size"]),
            creator_uid=int(headers["x-dss-creator-uid"]),
            sha256=headers["x-dss-sha256"],
            sha1=headers["x-dss-sha1"],
            s3_etag=headers["x-dss-s3-etag"],
            crc32c=headers["x-dss-crc32c"],
        )
    except (KeyError, ValueError) as error:
        raise DSSProtocolError(f"{request.method} {request.path}: header missing or wrong: {error}") from None
