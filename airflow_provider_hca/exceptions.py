"""What can go wrong, as a tree.

::

    DSSError
    +-- DSSConnectionError        no answer: no such host, refused, dropped, timed out
    +-- DSSResponseError          the DSS answered with an error
    |   +-- DSSAuthError            401, 403
    |   +-- DSSNotFoundError        404
    |   +-- DSSConflictError        409, or an asynchronous copy that lost against other content
    +-- DSSCredentialsError       no token could be made or refreshed
    +-- DSSProtocolError          an answer that no DSS gives
    +-- DSSCopyError              an asynchronous copy failed, or took too long
    +-- DSSCheckoutError          a checkout failed, or took too long
    +-- DSSWaitError              a wait in the triggerer failed
    +-- DSSContentError           what was downloaded is not what the DSS says it is
    +-- DSSChangeError            a change of a bundle or collection stopped half-way
    +-- StagingError              the staging bucket refused, or is not there
    +-- InvalidDirectoryError     a directory that cannot become a bundle (also a ValueError)
    +-- UploadError               some files of a directory could not be staged or registered
    +-- InvalidManifestError      a bundle whose names cannot be a directory's (also a ValueError)
    +-- DownloadError             some files of a bundle could not be downloaded
    +-- DSSAbortedError           it was told to stop

Every error carries its data as attributes, so nobody has to parse a message, and survives pickling, so it can
cross a process. No message ever holds a token, a header or a request body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

ConnectionFailure = Literal["dns", "refused", "tls", "connect timeout", "read timeout", "dropped"]

_FAILURES: dict[str, str] = {
    "dns": "no such host",
    "refused": "the connection was refused: nothing listens there",
    "tls": "TLS failed: the certificate is not trusted, or that port does not speak TLS",
    "connect timeout": "no connection in time",
    "read timeout": "no answer in time",
    "dropped": "the connection was dropped before an answer came",
}
_LISTED = 20


def _restore(cls: type[DSSError], args: tuple[Any, ...], state: dict[str, Any]) -> DSSError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class DSSError(Exception):
    """Anything that goes wrong between this package and a DSS.

    :ivar permanent: whether the same call would fail the same way again, so that a retry is a waste
    :ivar maybe_done: whether the DSS may have done what it was asked to, at one attempt or another
    """

    permanent: bool = False
    maybe_done: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with the message alone, which the subclasses do not accept.
        return _restore, (type(self), self.args, self.__dict__)


class DSSConnectionError(DSSError):
    """No answer came.

    :param method: HTTP method of the request
    :param host: `scheme://host:port` it went to
    :param path: its path, without the query
    :param kind: what happened
    :param reason: more exactly, for the message
    """

    def __init__(self, method: str, host: str, path: str, kind: ConnectionFailure, reason: str = "") -> None:
        super().__init__(f"{method} {path}: {reason or _FAILURES[kind]} ({host})")
        self.method, self.host, self.path, self.kind = method, host, path, kind


class DSSResponseError(DSSError):
    """The DSS answered with an error.

    :param method: HTTP method of the request
    :param path: its path, without the query
    :param status: HTTP status of the answer
    :param code: the DSS's machine-readable code, such as `illegal_version`; empty when the answer had none
    :param title: what the DSS says about it
    :param request_id: `X-AWS-REQUEST-ID`, by which the operator of the DSS finds the request in its logs
    :param retry_after: seconds the DSS asked to wait, if it did
    """

    # 4xx that a later try can turn: timeouts, "slow down", and a bundle whose files are still being copied.
    _PASSING_STATUS: ClassVar = frozenset({408, 425, 429})
    _PASSING_CODE: ClassVar = frozenset({"file_missing"})

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
        told = " ".join(part for part in (f"{status}", code) if part)
        message = f"{method} {path}: {told}: {title}" if title else f"{method} {path}: {told}"
        super().__init__(f"{message} (request id {request_id})" if request_id else message)
        self.method, self.path, self.status = method, path, status
        self.code, self.title, self.request_id, self.retry_after = code, title, request_id, retry_after
        passing = status in self._PASSING_STATUS or code in self._PASSING_CODE
        self.permanent = (400 <= status < 500 or code == "forbidden") and not passing


class DSSAuthError(DSSResponseError):
    """401 or 403, or a 500 with code `forbidden`: the token is missing, refused, or not enough."""


class DSSNotFoundError(DSSResponseError):
    """404: no such file, bundle or version in that replica."""


class DSSConflictError(DSSResponseError):
    """409: that uuid and version already names other content."""


class DSSCredentialsError(DSSError):
    """No token could be made from the configured credentials.

    :param message: what is wrong, and with which setting
    :param permanent: whether a retry is a waste
    """

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class DSSProtocolError(DSSError):
    """The answer is not one that a DSS gives: the address is probably not that of a DSS's API.

    :param message: what came
    :param permanent: whether a retry is a waste
    """

    def __init__(self, message: str, *, permanent: bool = True) -> None:
        super().__init__(message)
        self.permanent = permanent


class DSSCopyError(DSSError):
    """The DSS accepted a file with 202 and did not store it.

    :param uuid: of the file
    :param version: of the file
    :param reason: `failed` (the staged object cannot be copied), `unclear` (the DSS answers 500), or `deadline` (no
        result in time)
    :param message: what happened
    """

    def __init__(self, uuid: str, version: str, reason: Literal["failed", "unclear", "deadline"], message: str) -> None:
        super().__init__(f"file {uuid}.{version}: {message}")
        self.uuid, self.version, self.reason = uuid, version, reason
        self.permanent = reason == "failed"


class DSSCheckoutError(DSSError):
    """A checkout came to nothing. Another one may fare better.

    :param job_id: of the checkout
    :param status: what the DSS says: `FAILED`, `UNKNOWN_JOB_ID`, or `RUNNING` when it took too long
    :param cause: why
    """

    _TOLD: ClassVar = {
        "FAILED": "it failed",
        "UNKNOWN_JOB_ID": "the DSS does not know it (any more)",
        "RUNNING": "it is not done in time: give it a longer checkout_timeout",
    }

    def __init__(self, job_id: str, status: str, cause: str = "") -> None:
        super().__init__(f"checkout {job_id}: {self._TOLD.get(status, status)}{f': {cause}' if cause else ''}")
        self.job_id, self.status, self.cause = job_id, status, cause


class DSSWaitError(DSSError):
    """A wait that was left to the triggerer failed there; the message is that of the error."""


class DSSContentError(DSSError):
    """The content that came is not what the DSS says it is, to the end of its trials.

    :param uuid: of the file
    :param version: of the file
    :param message: what is different
    """

    def __init__(self, uuid: str, version: str, message: str) -> None:
        super().__init__(f"file {uuid}.{version}: {message}")
        self.uuid, self.version = uuid, version


class DSSChangeError(DSSError):
    """A change that takes several PATCHes stopped half-way; the versions made until then stay.

    :param what: `bundle` or `collection`
    :param uuid: of the bundle or collection
    :param version: the last good one: it has the changes of the calls that succeeded; a repeat goes on from there
    :param done: how many calls succeeded this time
    :param cause: why the next one did not; kept as `reason`, its text
    """

    def __init__(
        self, what: Literal["bundle", "collection"], uuid: str, version: str, done: int, cause: DSSError
    ) -> None:
        calls = f"{done} PATCH{'' if done == 1 else 'es'}"
        super().__init__(f"{what} {uuid}: stopped after {calls}; the last good version is {version}: {cause}")
        self.what, self.uuid, self.version, self.done, self.reason = what, uuid, version, done, str(cause)
        self.permanent = cause.permanent


class StagingError(DSSError):
    """The object store did not take, or does not have, a staged object.

    :param url: `s3://bucket/key` or `gs://bucket/key`
    :param message: what happened and what to change
    :param permanent: whether a retry is a waste
    :param throttled: whether the store asks for fewer requests
    """

    def __init__(self, url: str, message: str, *, permanent: bool = False, throttled: bool = False) -> None:
        super().__init__(f"{url}: {message}")
        self.url, self.permanent, self.throttled = url, permanent, throttled


def listed(offenders: Sequence[tuple[str, str]]) -> str:
    """Return offenders as lines of text: the first of them, and how many more there are.

    :param offenders: pairs of a name and what is wrong with it
    """
    lines = [f"  {name!r}: {reason}" if name else f"  {reason}" for name, reason in offenders[:_LISTED]]
    if len(offenders) > _LISTED:
        lines.append(f"  ... and {len(offenders) - _LISTED:,} more")
    return "\n".join(lines)


class InvalidDirectoryError(DSSError, ValueError):
    """A directory cannot become a bundle; nothing was registered.

    :param directory: the directory
    :param offenders: pairs of a file's name (empty for the directory itself) and what is wrong with it
    :param permanent: whether a retry is a waste; it is not when something is still writing into the directory
    """

    def __init__(self, directory: str, offenders: Sequence[tuple[str, str]], *, permanent: bool = True) -> None:
        super().__init__(f"{directory} cannot become a bundle, and this try registered nothing:\n{listed(offenders)}")
        self.directory, self.offenders, self.permanent = directory, tuple(offenders), permanent


class UploadError(DSSError):
    """Some files could not be staged or registered, and no bundle was made; the other files stay usable.

    :param failures: pairs of a file's name and why it failed
    :param done: how many files are registered
    :param total: how many files there are
    :param permanent: whether a retry is a waste
    """

    def __init__(self, failures: Sequence[tuple[str, str]], *, done: int, total: int, permanent: bool = False) -> None:
        kept = f"{done:,} are registered" + ("" if permanent else ", and a retry will not send them again")
        super().__init__(
            f"{len(failures):,} of {total:,} files failed ({kept}); no bundle was made:\n{listed(failures)}"
        )
        self.failures, self.done, self.total, self.permanent = tuple(failures), done, total, permanent


class InvalidManifestError(DSSError, ValueError):
    """The files of a bundle cannot be put into a directory; nothing was written.

    :param fqid: of the bundle
    :param offenders: pairs of a file's name and what is wrong with it
    """

    permanent = True

    def __init__(self, fqid: str, offenders: Sequence[tuple[str, str]]) -> None:
        super().__init__(
            f"bundle {fqid} cannot be a directory, and nothing was written. Leave these files out by data_files and "
            f"metadata_files:\n{listed(offenders)}"
        )
        self.fqid, self.offenders = fqid, tuple(offenders)


class DownloadError(DSSError):
    """Some files could not be downloaded; the other ones are in their places.

    :param failures: pairs of a file's name and why it failed
    :param done: how many files are in their places
    :param total: how many files were wanted
    :param permanent: whether a retry is a waste
    """

    def __init__(self, failures: Sequence[tuple[str, str]], *, done: int, total: int, permanent: bool = False) -> None:
        kept = f"{done:,} are there" + ("" if permanent else ", and a retry will not fetch them again")
        super().__init__(f"{len(failures):,} of {total:,} files could not be downloaded ({kept}):\n{listed(failures)}")
        self.failures, self.done, self.total, self.permanent = tuple(failures), done, total, permanent


class DSSAbortedError(DSSError):
    """It was told to stop: the task was killed or ran out of time."""
