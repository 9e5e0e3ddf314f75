"""uuids and DSS_VERSIONs: parse, check, make, derive deterministically.

Everything here is pure, and is what the client and the local DSS share: nothing else is.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from functools import lru_cache

# The digit after the third dash tells the variant: that of RFC 4122 has 8, 9, a or b.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_VERSION = re.compile(r"[1-9]\d{3}-\d{2}-\d{2}T\d{6}\.\d{6}Z", re.ASCII)
_VERSION_FORMAT = "%Y-%m-%dT%H%M%S.%fZ"

# The root of every derived uuid. Changing it would make each pipeline upload all its data again under new names.
_NAMESPACE = uuid.UUID("6d2c7a52-9d0c-5b1e-8c53-0f4d8e4c1a77")


def check_uuid(value: str, what: str = "uuid") -> str:
    """Return `value` in lower case, as the DSS stores it, or raise.

    An upper-case uuid in a PATCH corrupts a DSS's store, and one in `files[]` is `file_missing`, so every uuid
    passes through here before it is sent.

    :param value: a uuid of RFC 4122 in its canonical form, 8-4-4-4-12 hexadecimal digits, in either case
    :param what: what the uuid names, for the error message
    :raises ValueError: when it is not in that form
    """
    lowered = value.lower() if isinstance(value, str) else ""
    if not _UUID.fullmatch(lowered):
        example = "ce55fd51-7833-469b-be0b-5da88ebebfcd"
        raise ValueError(f"{what} must be a uuid (RFC 4122), such as {example!r}, not {value!r}")
    return lowered


def check_version(value: str, what: str = "version") -> str:
    """Return `value` unchanged if it is a DSS_VERSION, or raise.

    :param value: a UTC time as `YYYY-MM-DDTHHMMSS.ffffffZ`
    :param what: what the version names, for the error message
    :raises ValueError: when it is not in that form, or no such time exists
    """
    try:
        _parse_version(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{what} must be a DSS_VERSION such as '2018-12-31T235959.000001Z' (UTC, no colons, six digits of a "
            f"second), not {value!r}"
        ) from None
    return value


@lru_cache(maxsize=256)  # the files of an upload have one version
def _parse_version(value: str) -> None:
    if not _VERSION.fullmatch(value):
        raise ValueError
    datetime.strptime(value, _VERSION_FORMAT)


def make_version(moment: datetime | None = None, *, later: int = 0) -> str:
    """Return a time as a DSS_VERSION.

    :param moment: an aware time; now by default
    :param later: microseconds to add, so that versions made of one moment can be told apart and ordered
    :raises ValueError: when `moment` has no time zone
    """
    moment = datetime.now(UTC) if moment is None else moment
    if moment.tzinfo is None:
        raise ValueError("a DSS_VERSION is a time in UTC: give a datetime with a time zone")
    return check_version((moment.astimezone(UTC) + timedelta(microseconds=later)).strftime(_VERSION_FORMAT))


def derive_uuid(*parts: str | int) -> str:
    """Return the uuid that belongs to these parts: the same parts always give the same uuid.

    :param parts: what the uuid is derived from, in order; `("a", "bc")` and `("ab", "c")` give different uuids
    """
    return str(uuid.uuid5(_NAMESPACE, "".join(f"{len(str(part))}:{part}," for part in parts)))
