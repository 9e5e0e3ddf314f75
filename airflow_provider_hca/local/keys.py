"""The secrets of a state directory: two signing keys, the OAuth2 client, the key of presigned URLs."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .blob_store import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

DEVELOPER = "developer@dss-local.iam.gserviceaccount.com"
PROVIDER = "https://local.dss.invalid/"
USER = "user@local.dss.invalid"


@dataclass(frozen=True, repr=False)
class SigningKey:
    """A private key with its key id and issuer. It has no repr, so that it cannot be logged."""

    issuer: str
    kid: str
    private: str

    @cached_property
    def public(self) -> Any:
        """Public key in the form that PyJWT needs; reading it takes 0.1 s."""
        return serialization.load_pem_private_key(self.private.encode(), None).public_key()


@dataclass(frozen=True, repr=False)
class Secrets:
    """All secrets. It has no repr, so that they cannot be logged."""

    service_account: SigningKey
    provider: SigningKey
    client_id: str
    client_secret: str
    refresh_token: str
    url_secret: str


def load_secrets(state: Path, token_uri: str) -> Secrets:
    """Return the secrets of a state directory, generated on first use, and write the developer's key file.

    :param state: state directory
    :param token_uri: URL of the token endpoint, for the key file
    """
    path = state / "secrets.json"
    if not path.exists():
        write_atomically(path, json.dumps(_generate()).encode())
    stored = json.loads(path.read_bytes())
    loaded = Secrets(
        SigningKey(DEVELOPER, stored["service_account_kid"], stored["service_account_key"]),
        SigningKey(PROVIDER, stored["provider_kid"], stored["provider_key"]),
        stored["client_id"],
        stored["client_secret"],
        stored["refresh_token"],
        stored["url_secret"],
    )
    account = {
        "type": "service_account",
        "project_id": "dss-local",
        "private_key_id": loaded.service_account.kid,
        "private_key": loaded.service_account.private,
        "client_email": DEVELOPER,
        "client_id": "100000000000000000000",
        "auth_uri": token_uri,
        "token_uri": token_uri,
    }
    write_atomically(key_file(state), json.dumps(account, indent=2).encode())
    return loaded


def key_file(state: Path) -> Path:
    """Return the path of the developer's service-account key.

    :param state: state directory
    """
    return state / "developer-key.json"


def _generate() -> dict[str, str]:
    return {
        "service_account_kid": secrets.token_hex(20),
        "service_account_key": _rsa_key(),
        "provider_kid": secrets.token_hex(20),
        "provider_key": _rsa_key(),
        "client_id": secrets.token_urlsafe(24),
        "client_secret": secrets.token_urlsafe(32),
        "refresh_token": secrets.token_urlsafe(32),
        "url_secret": secrets.token_hex(32),
    }


def _rsa_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
