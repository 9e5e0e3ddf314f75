"""Credentials and endpoints that replace what the cloud SDKs find by themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to enter a store that speaks S3, in place of what boto3 finds.

    :ivar session: a `boto3.Session`, whose credentials may be renewed by themselves
    :ivar endpoint_url: of the store; boto3's own if None
    :ivar verify: whether to verify TLS, or the path of a CA bundle; boto3's own if None
    :ivar config: further settings of its client, a `botocore.config.Config`
    """

    session: Any = field(repr=False)
    endpoint_url: str | None = None
    verify: bool | str | None = None
    config: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GCSAccess:
    """How to enter Google Cloud Storage, in place of what Google's SDK finds.

    :ivar credentials: of `google.auth`
    """

    credentials: Any = field(repr=False)
