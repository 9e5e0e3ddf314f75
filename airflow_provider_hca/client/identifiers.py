"""UUIDs and DSS_VERSIONs: check, create and derive them.

All functions are pure. The client and the local DSS share only this module.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache

# The first digit after the third dash is the variant; that of RFC 4122 is 8, 9, a or b.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_VERSION = re.compile(r"([1-9]\d{3})-(\d{2})-(\d{2})T(\d{2})(\d{2})(\d{2})\.\d{6}Z", re.ASCII)
_VERSION_FORMAT = "%Y-%m-%dT%H%M%S.%fZ"
SHA256 = re.compile(r"[0-9a-f]{64}")

# The root of every derived UUID. If it changed, every pipeline would upload all its data again under new names.
_NAMESPACE = uuid.UUID("6d2c7a52-9d0c-5b1e-8c53-0f4d8e4c1a77")


def check_uuid(value: str, name: str = "uuid") -> str:
    """Return a UUID in lower case, as the DSS stores it, or raise.

    An upper-case UUID in a PATCH corrupts a DSS's store, and one in `files[]` is answered with `file_missing`.

    :param value: UUID of RFC 4122 in its canonical form, 8-4-4-4-12 hexadecimal digits, in either case
    :param name: Name of the value, for the error message
    :raises ValueError: if it has another form
    """
    lowered = value.lower() if isinstance(value, str) else ""
    if not _UUID.fullmatch(lowered):
        example = "ce55fd51-7833-469b-be0b-5da88ebebfcd"
        raise ValueError(f"{name} must be a UUID (RFC 4122), such as {example!r}, got {value!r}")
    return lowered


def check_version(value: str, name: str = "version") -> str:
    """Return a DSS_VERSION unchanged, or raise.

    :param value: UTC time as `YYYY-MM-DDTHHMMSS.ffffffZ`
    :param name: Name of the value, for the error message
    :raises ValueError: if it has another form, or is not a valid time
    """
    try:
        _parse_version(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be a DSS_VERSION such as '2018-12-31T235959.000001Z' (UTC, no colons, six digits of a "
            f"second), got {value!r}"
        ) from None
    return value


@lru_cache(maxsize=256)  # the files of an upload share one version
def _parse_version(value: str) -> None:
    match = _VERSION.fullmatch(value)
    if not match:
        raise ValueError
    datetime(*map(int, match.groups()))  # type: ignore[arg-type]


def check_sha256(value: str) -> str:
    """Return a SHA-256 in lower case, as the DSS returns it, or raise.

    :param value: 64 hexadecimal digits, in either case
    :raises ValueError: if it has another form
    """
    lowered = value.lower() if isinstance(value, str) else ""
    if not SHA256.fullmatch(lowered):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {value!r:.200}")
    return lowered


def make_version(moment: datetime | None = None, *, later: int = 0) -> str:
    """Return a time as a DSS_VERSION.

    :param moment: Time with a time zone; now if None
    :param later: Microseconds to add, for several ordered versions of one moment
    :raises ValueError: if `moment` has no time zone
    """
    moment = datetime.now(UTC) if moment is None else moment
    if moment.tzinfo is None:
        raise ValueError("a DSS_VERSION is a time in UTC: pass a datetime with a time zone")
    return check_version((moment.astimezone(UTC) + timedelta(microseconds=later)).strftime(_VERSION_FORMAT))


def bundle_uuid_of(key: str) -> str:
    """Return the UUID of the bundle with a key, wherever and whenever it is uploaded.

    :param key: Non-empty text, such as the name of a dataset
    :raises ValueError: if it is empty
    """
    if not isinstance(key, str) or not key.strip():
        raise ValueError(f"bundle_key must be a non-empty text, got {key!r}")
    return derive_uuid("bundle_key", key)


def derive_uuid(*parts: str | int) -> str:
    """Return the UUID for these parts; the same parts always give the same UUID.

    :param parts: Ordered parts; `("a", "bc")` and `("ab", "c")` give different UUIDs
    """
    return str(uuid.uuid5(_NAMESPACE, "".join(f"{len(str(part))}:{part}," for part in parts)))
