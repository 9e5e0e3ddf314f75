"""Errors of this package.

::

    DSSError
    +-- DSSConnectionError        no response: unknown host, refused, dropped, timed out
    +-- DSSResponseError          the DSS responded with an error
    |   +-- DSSAuthError            401, 403
    |   +-- DSSNotFoundError        404
    |   +-- DSSConflictError        409, or an asynchronous copy that lost against other content
    +-- DSSCredentialsError       a token could not be created or refreshed
    +-- DSSProtocolError          the response is not that of a DSS
    +-- DSSCopyError              an asynchronous copy failed or timed out
    +-- DSSCheckoutError          a checkout failed or timed out
    +-- DSSWaitError              a wait in the triggerer failed
    +-- DSSContentError           downloaded content differs from its size or checksum
    +-- DSSChangeError            a change of a bundle or collection stopped half-way
    +-- StagingError              the staging bucket is missing or refused a request
    +-- InvalidDirectoryError     a directory cannot be uploaded as a bundle (also a ValueError)
    +-- InvalidMetadataError      a directory has invalid metadata (also a ValueError)
    +-- UploadError               files of a directory could not be staged or registered
    +-- InvalidManifestError      a bundle has file names that a directory cannot have (also a ValueError)
    +-- DownloadError             files of a bundle could not be downloaded
    +-- DSSAbortedError           the work was stopped

Errors carry their data as attributes and can be pickled. Messages never contain tokens, headers or request bodies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar, Literal, Self

ConnectionFailure = Literal["dns", "refused", "tls", "connect timeout", "read timeout", "dropped"]

_FAILURES: dict[str, str] = {
    "dns": "no such host",
    "refused": "connection refused: nothing listens at this address",
    "tls": "TLS failed: the certificate is not trusted, or the port does not speak TLS",
    "connect timeout": "timed out while connecting",
    "read timeout": "timed out while waiting for the response",
    "dropped": "connection dropped before the response",
}
_MAX_LINES = 20


def _restore(cls: type[DSSError], args: tuple[Any, ...], state: dict[str, Any]) -> DSSError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _lines(offenders: Sequence[tuple[str, str]]) -> str:
    """Return the first names of each reason, some twenty lines in all."""
    names = defaultdict[str, list[str]](list)
    for name, reason in offenders:
        names[reason].append(name)
    lines: list[str] = []
    shown = max(1, _MAX_LINES // max(1, len(names)))
    for reason, same in list(names.items())[:_MAX_LINES]:
        if len(same) == 1:
            lines.append(f"  {same[0]!r}: {reason}" if same[0] else f"  {reason}")
            continue
        lines += [f"  {reason}:", *(f"    {name!r}" for name in same[:shown])]
        if len(same) > shown:
            lines.append(f"    ... and {len(same) - shown:,} more")
    if more := sum(map(len, list(names.values())[_MAX_LINES:])):
        lines.append(f"  ... and {more:,} more")
    return "\n".join(lines)


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


class DSSError(Exception):
    """Base class of all errors of this package.

    :ivar permanent: whether a repeat would fail the same way, so that a retry is pointless
    :ivar maybe_done: whether the DSS may have executed the request in spite of the error
    """

    permanent: bool = False
    maybe_done: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with the message alone, which the subclasses do not accept.
        return _restore, (type(self), self.args, self.__dict__)


class DSSConnectionError(DSSError):
    """A request got no response.

    :param method: HTTP method of the request
    :param host: `scheme://host:port` of the request
    :param path: path of the request, without the query
    :param kind: kind of the failure
    :param reason: text for the message; derived from `kind` if empty
    """

    def __init__(self, method: str, host: str, path: str, kind: ConnectionFailure, reason: str = "") -> None:
        super().__init__(f"{method} {path}: {reason or _FAILURES[kind]} ({host})")
        self.method, self.host, self.path, self.kind = method, host, path, kind


class DSSResponseError(DSSError):
    """The DSS responded with an error.

    :param method: HTTP method of the request
    :param path: path of the request, without the query
    :param status: HTTP status of the response
    :param code: machine-readable code of the DSS, such as `illegal_version`; empty if missing
    :param title: description by the DSS
    :param request_id: `X-AWS-REQUEST-ID`, which identifies the request in the logs of the DSS
    :param retry_after: `Retry-After` in seconds; None if missing
    """

    # 4xx that a retry can cure: timeouts, "slow down", and a bundle whose files are still being copied.
    _TRANSIENT_STATUS: ClassVar = frozenset({408, 425, 429})
    _TRANSIENT_CODE: ClassVar = frozenset({"file_missing"})

    def __init__(
        self,
        method: str,
        path: str,
        status: int,
        code: str = "",
        title: str = "",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        message = f"{method} {path}: {f'{status} {code}'.strip()}"
        if title:
            message += f": {title}"
        super().__init__(f"{message} (request id {request_id})" if request_id else message)
        self.method, self.path, self.status = method, path, status
        self.code, self.title, self.request_id, self.retry_after = code, title, request_id, retry_after
        transient = status in self._TRANSIENT_STATUS or code in self._TRANSIENT_CODE
        self.permanent = (400 <= status < 500 or code == "forbidden") and not transient


class DSSAuthError(DSSResponseError):
    """401 or 403, or 500 with code `forbidden`: the token is missing, refused or insufficient."""


class DSSNotFoundError(DSSResponseError):
    """404: the file, bundle, collection or version does not exist in that replica."""


class DSSConflictError(DSSResponseError):
    """409: this uuid and version exist with other content."""


class DSSCredentialsError(DSSError):
    """A token could not be created from the configured credentials.

    :param message: problem, and the setting to change
    :param permanent: whether a retry is pointless
    """

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class DSSProtocolError(DSSError):
    """The response is not that of a DSS: the address is probably wrong.

    :param message: the unexpected response
    :param permanent: whether a retry is pointless
    """

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class DSSCopyError(DSSError):
    """The DSS accepted a file with 202 and did not store it.

    :param uuid: UUID of the file
    :param version: version of the file
    :param reason: `failed` (the staged object cannot be copied), `unclear` (the DSS responds with 500) or `deadline`
    :param message: description
    """

    def __init__(self, uuid: str, version: str, reason: Literal["failed", "unclear", "deadline"], message: str) -> None:
        super().__init__(f"file {uuid}.{version}: {message}")
        self.uuid, self.version, self.reason = uuid, version, reason
        self.permanent = reason == "failed"

    @classmethod
    def late(cls, uuid: str, version: str) -> Self:
        """Return the error for a copy that takes longer than its timeout."""
        return cls(
            uuid,
            version,
            "deadline",
            "the DSS accepted the file but did not store it in time: increase copy_timeout, or ask the operator of the "
            "DSS whether its copies are running",
        )


class DSSCheckoutError(DSSError):
    """A checkout failed or timed out. A new checkout may succeed.

    :param job_id: id of the checkout
    :param status: status of the DSS: `FAILED`, `UNKNOWN_JOB_ID`, or `RUNNING` after a timeout
    :param cause: cause by the DSS
    """

    _REASONS: ClassVar = {
        "FAILED": "failed",
        "UNKNOWN_JOB_ID": "unknown to the DSS, or forgotten by it",
        "RUNNING": "timed out; increase checkout_timeout",
    }

    def __init__(self, job_id: str, status: str, cause: str = "") -> None:
        super().__init__(f"checkout {job_id}: {self._REASONS.get(status, status)}{f': {cause}' if cause else ''}")
        self.job_id, self.status, self.cause = job_id, status, cause


class DSSWaitError(DSSError):
    """A wait in the triggerer failed; the message is that of the original error."""


class DSSContentError(DSSError):
    """Downloaded content differs from the file's size or checksum, after all attempts.

    :param uuid: UUID of the file
    :param version: version of the file
    :param message: difference
    """

    def __init__(self, uuid: str, version: str, message: str) -> None:
        super().__init__(f"file {uuid}.{version}: {message}")
        self.uuid, self.version = uuid, version


class DSSChangeError(DSSError):
    """A change stopped half-way, or its result could not be verified; the versions created so far remain.

    :param resource: `bundle` or `collection`
    :param uuid: UUID of the bundle or collection
    :param version: last version created, from which a repeat resumes
    :param done: number of PATCHes that succeeded
    :param cause: error of the next PATCH; its text is kept as `reason`
    """

    def __init__(
        self, resource: Literal["bundle", "collection"], uuid: str, version: str, done: int, cause: DSSError
    ) -> None:
        calls = f"{done} PATCH{'' if done == 1 else 'es'}"
        super().__init__(f"{resource} {uuid}: stopped after {calls} at version {version}: {cause}")
        self.resource, self.uuid, self.version, self.done, self.reason = resource, uuid, version, done, str(cause)
        self.permanent = cause.permanent


class StagingError(DSSError):
    """An object could not be written to, or read from, the staging bucket.

    :param url: `s3://bucket/key` or `gs://bucket/key`
    :param message: problem, and a remedy
    :param permanent: whether a retry is pointless
    :param throttled: whether the store asks for fewer requests
    """

    def __init__(self, url: str, message: str, *, permanent: bool = False, throttled: bool = False) -> None:
        super().__init__(f"{url}: {message}")
        self.url, self.permanent, self.throttled = url, permanent, throttled


class InvalidDirectoryError(DSSError, ValueError):
    """A directory cannot be uploaded as a bundle; nothing was registered.

    :param directory: directory, or URL of a bucket prefix
    :param offenders: pairs of file name (empty for the directory itself) and problem
    :param permanent: whether a retry is pointless; it is not when files changed during the upload
    """

    def __init__(self, directory: str, offenders: Sequence[tuple[str, str]], *, permanent: bool = True) -> None:
        shown = directory if "://" in directory else Path(directory).absolute()
        super().__init__(f"{shown} cannot be uploaded as a bundle; this try registered nothing:\n{_lines(offenders)}")
        self.directory, self.offenders, self.permanent = directory, tuple(offenders), permanent

    @property
    def problems(self) -> str:
        """The offenders as text, as in the message."""
        return dedent(_lines(self.offenders))


class InvalidMetadataError(DSSError, ValueError):
    """A directory has invalid metadata; nothing was sent.

    :param directory: directory, or URL of a bucket prefix
    :param findings: triples of file name, JSON path (empty for the file as a whole) and reason
    :param summary: findings by reason, for the message
    """

    permanent = True

    def __init__(self, directory: str, findings: Sequence[tuple[str, str, str]], summary: str) -> None:
        super().__init__(f"the metadata is invalid; nothing was sent:\n{summary}")
        self.directory, self.findings = directory, tuple(findings)


class UploadError(DSSError):
    """Files could not be staged or registered, and no bundle was created; registered files are used by a retry.

    :param failures: pairs of file name and reason
    :param done: number of registered files
    :param total: number of files
    :param permanent: whether a retry is pointless
    """

    def __init__(self, failures: Sequence[tuple[str, str]], *, done: int, total: int, permanent: bool = False) -> None:
        kept = f"registered: {done:,}{'' if permanent else ', skipped by a retry'}"
        super().__init__(
            f"{len(failures):,} of {_files(total)} failed ({kept}); no bundle was created:\n{_lines(failures)}"
        )
        self.failures, self.done, self.total, self.permanent = tuple(failures), done, total, permanent


class InvalidManifestError(DSSError, ValueError):
    """A bundle has file names that a directory cannot have; nothing was written.

    :param fqid: FQID of the bundle
    :param offenders: pairs of file name and problem
    """

    permanent = True

    def __init__(self, fqid: str, offenders: Sequence[tuple[str, str]]) -> None:
        super().__init__(
            f"bundle {fqid} cannot be written as a directory; nothing was written. Exclude these files with data_files "
            f"and metadata_files:\n{_lines(offenders)}"
        )
        self.fqid, self.offenders = fqid, tuple(offenders)


class DownloadError(DSSError):
    """Files could not be downloaded; the others are complete.

    :param failures: pairs of file name and reason
    :param done: number of complete files
    :param total: number of selected files
    :param permanent: whether a retry is pointless
    """

    def __init__(self, failures: Sequence[tuple[str, str]], *, done: int, total: int, permanent: bool = False) -> None:
        kept = f"complete: {done:,}{'' if permanent else ', skipped by a retry'}"
        super().__init__(f"{len(failures):,} of {_files(total)} could not be downloaded ({kept}):\n{_lines(failures)}")
        self.failures, self.done, self.total, self.permanent = tuple(failures), done, total, permanent


class DSSAbortedError(DSSError):
    """The work was stopped: the task was killed or timed out."""
