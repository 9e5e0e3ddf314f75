"""Keys of staged objects: `PREFIX/BUNDLE_UUID.VERSION/FILE_UUID.CRC`."""

from __future__ import annotations

import re
import zlib

from airflow_provider_hca.upload.entries import PlannedFile
from airflow_provider_hca.upload.plan import Plan


def bundle_prefix_of(prefix: str, plan: Plan) -> str:
    """Return the prefix of the keys of all versions of a bundle: one listing finds what was staged for them.

    :param prefix: prefix of all staged objects, empty or with a slash at its end
    """
    return f"{prefix}{plan.bundle_uuid}."


def prefix_of(prefix: str, plan: Plan) -> str:
    """Return the prefix of the keys of a plan, which no other plan uses.

    :param prefix: prefix of all staged objects, empty or with a slash at its end
    """
    return f"{bundle_prefix_of(prefix, plan)}{plan.bundle_version}/"


def key_of(file: PlannedFile, prefix: str) -> str:
    """Return the key of a staged file.

    Without the file's name, since stores and servers differ in how they treat %, #, ? and spaces. With its content
    type, which a listing does not return, and which a later try may change.

    :param prefix: prefix that `prefix_of` returns
    """
    return f"{prefix}{last_part(file)}"


def last_part(file: PlannedFile) -> str:
    """Return the part of the key after the prefix, the same for all versions of the bundle."""
    return f"{file.uuid}.{zlib.crc32(file.content_type.encode()):08x}"


def is_key(key: str, prefix: str, plan: Plan) -> bool:
    """Return whether `key_of` can have returned a key, for this version of the bundle or an earlier one."""
    version, _, name = key.removeprefix(bundle_prefix_of(prefix, plan)).partition("/")
    return version <= plan.bundle_version and re.fullmatch(r"[0-9a-f-]{36}\.[0-9a-f]{8}", name) is not None
