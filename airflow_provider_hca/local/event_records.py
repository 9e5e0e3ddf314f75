"""Records of events: the creations and deletions of bundles, in order.

The time of an event in microseconds is unique. It identifies and orders events.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_hca.client.identifiers import check_version, make_version

if TYPE_CHECKING:
    import sqlite3

    from .database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    at INTEGER PRIMARY KEY, replica TEXT, type TEXT, uuid TEXT, version TEXT, reason TEXT);
CREATE INDEX IF NOT EXISTS events_by_bundle ON events (replica, uuid, version);
"""
_EVENT = "at, replica, type, uuid, version, reason"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = 2**63 - 1  # later than any event


@dataclass(frozen=True)
class Event:
    """The creation or deletion of a bundle version in a replica."""

    at: int  # microseconds since 1970
    replica: str
    type: str  # CREATE or TOMBSTONE
    uuid: str
    version: str
    reason: str | None  # of a TOMBSTONE

    @property
    def id(self) -> str:
        """Id of the event: the name under which a DSS stores the bundle or its tombstone."""
        return f"{self.uuid}.{self.version}" + (".dead" if self.type == "TOMBSTONE" else "")

    @property
    def timestamp(self) -> str:
        """Time of the event as a DSS_VERSION."""
        return timestamp(self.at)


def timestamp(at: int) -> str:
    """Return a time as a DSS_VERSION.

    :param at: time in microseconds since 1970
    """
    return make_version(_EPOCH, later=at)


def microseconds(version: str) -> int:
    """Return a DSS_VERSION as microseconds since 1970.

    :raises ValueError: when it is not a DSS_VERSION
    """
    moment = datetime.strptime(check_version(version), "%Y-%m-%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def record_created(db: sqlite3.Connection, replica: str, uuid: str, version: str) -> None:
    """Record a CREATE event.

    :param db: transaction in which the bundle is written
    """
    _record(db, replica, "CREATE", uuid, version, None)


def record_deleted(db: sqlite3.Connection, replica: str, uuid: str, version: str, reason: str) -> None:
    """Record a TOMBSTONE event for each bundle version that was not deleted before.

    :param db: transaction in which the tombstone is written
    :param version: deleted version; empty for all versions
    """
    rows = db.execute(
        "SELECT version FROM bundles b WHERE replica = ? AND uuid = ? AND ? IN ('', version) AND NOT EXISTS "
        "(SELECT 1 FROM events e WHERE e.replica = b.replica AND e.uuid = b.uuid AND e.version = b.version "
        "AND e.type = 'TOMBSTONE')",
        (replica, uuid, version),
    ).fetchall()
    for (deleted,) in rows:
        _record(db, replica, "TOMBSTONE", uuid, deleted, reason)


def _record(db: sqlite3.Connection, replica: str, kind: str, uuid: str, version: str, reason: str | None) -> None:
    # Always later than the last event, even when the clock is set back.
    db.execute(
        "INSERT INTO events VALUES (MAX(?, COALESCE((SELECT MAX(at) FROM events), 0) + 1), ?, ?, ?, ?, ?)",
        (time.time_ns() // 1000, replica, kind, uuid, version, reason),
    )


class EventRecords:
    """Queries for events; times are in microseconds since 1970."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.create(_SCHEMA)

    def between(self, replica: str, begin: int, end: int, limit: int) -> list[Event]:
        """Return the events of a replica from `begin`, inclusive, to `end`, exclusive."""
        rows = self._db.rows(
            f"SELECT {_EVENT} FROM events WHERE replica = ? AND at >= ? AND at < ? ORDER BY at LIMIT ?",  # noqa: S608 - constant names
            replica,
            begin,
            end,
            limit,
        )
        return [Event(*row) for row in rows]

    def after(self, at: int, limit: int) -> list[Event]:
        """Return the events of both replicas after a time."""
        rows = self._db.rows(f"SELECT {_EVENT} FROM events WHERE at > ? ORDER BY at LIMIT ?", at, limit)  # noqa: S608 - constant names
        return [Event(*row) for row in rows]

    def latest_of(self, replica: str, uuid: str, version: str) -> Event | None:
        """Return the last event of a bundle version, or None."""
        rows = self._db.rows(
            f"SELECT {_EVENT} FROM events WHERE replica = ? AND uuid = ? AND version = ? ORDER BY at DESC LIMIT 1",  # noqa: S608 - constant names
            replica,
            uuid,
            version,
        )
        return Event(*rows[0]) if rows else None
