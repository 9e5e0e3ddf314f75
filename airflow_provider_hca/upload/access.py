"""Credentials and endpoints in place of those that the cloud SDKs find."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class S3Access:
    """Access to S3, or to a store that speaks its protocol.

    :ivar session: a `boto3.Session`, which may renew its credentials
    :ivar endpoint_url: endpoint of the store; boto3's own if None
    :ivar verify: whether to verify TLS, or path of a CA bundle; boto3's own if None
    :ivar config: further settings of the client, a `botocore.config.Config`
    """

    session: Any = field(repr=False)
    endpoint_url: str | None = None
    verify: bool | str | None = None
    config: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GCSAccess:
    """Access to Google Cloud Storage.

    :ivar credentials: credentials of `google.auth`
    """

    credentials: Any = field(repr=False)
