"""Objects, multipart uploads and errors of the S3 server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


class S3Error(Exception):
    """An error response.

    :param status: HTTP status
    :param code: S3 error code
    :param message: error message
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Properties:
    """The properties of an object that a client sets.

    :ivar headers: standard headers by lower-case name: `content-type`, `cache-control`, ...
    :ivar metadata: user metadata by name without `x-amz-meta-`
    :ivar tags: tags by key
    :ivar checksums: verified checksums in base64, by lower-case algorithm
    """

    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """Return the properties as JSON."""
        return json.dumps([self.headers, self.metadata, self.tags, self.checksums])

    @classmethod
    def load(cls, text: str) -> Properties:
        """Return the properties that `dump` wrote."""
        return cls(*json.loads(text))


@dataclass(frozen=True)
class S3Object:
    """An object.

    :ivar etag: ETag without quotes
    :ivar size: size in bytes
    :ivar modified: time of the last change, in seconds since 1970
    :ivar pieces: names of the files that contain the content, in order
    """

    key: str
    etag: str
    size: int
    modified: float
    properties: Properties
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A part of a multipart upload; fields as in `S3Object`."""

    number: int
    etag: str
    size: int
    modified: float
    piece: str


@dataclass(frozen=True)
class Upload:
    """An open multipart upload; `initiated` is in seconds since 1970."""

    id: str
    bucket: str
    key: str
    initiated: float
    properties: Properties


def no_such_key(key: str) -> S3Error:
    """Return the error for a key that does not exist."""
    return S3Error(404, "NoSuchKey", f"There is no object with the key {key}")
