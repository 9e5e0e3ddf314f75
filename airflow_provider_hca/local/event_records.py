"""The records of what happened to bundles, in the order in which it happened.

Each event has a time of its own, in microseconds: events are told apart, ordered and asked for by it.
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
    """Something that happened to one version of a bundle in one replica."""

    at: int  # microseconds since 1970
    replica: str
    type: str  # CREATE or TOMBSTONE
    uuid: str
    version: str
    reason: str | None  # of a TOMBSTONE

    @property
    def id(self) -> str:
        """What the event goes by: the name under which a DSS stores the bundle or its tombstone."""
        return f"{self.uuid}.{self.version}" + (".dead" if self.type == "TOMBSTONE" else "")

    @property
    def timestamp(self) -> str:
        """When it happened, as a DSS_VERSION."""
        return timestamp(self.at)


def timestamp(at: int) -> str:
    """Return a time as a DSS_VERSION.

    :param at: microseconds since 1970
    """
    return make_version(_EPOCH, later=at)


def microseconds(version: str) -> int:
    """Return a DSS_VERSION as microseconds since 1970.

    :param version: the DSS_VERSION
    :raises ValueError: when it is none
    """
    moment = datetime.strptime(check_version(version), "%Y-%m-%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def note_created(db: sqlite3.Connection, replica: str, uuid: str, version: str) -> None:
    """Note that there is a new version of a bundle.

    :param db: the transaction in which it was written
    :param replica: where
    :param uuid: which bundle
    :param version: which version of it
    """
    _note(db, replica, "CREATE", uuid, version, None)


def note_deleted(db: sqlite3.Connection, replica: str, uuid: str, version: str, reason: str) -> None:
    """Note that a version of a bundle was deleted, or all that there are; what was deleted before is not so again.

    :param db: the transaction in which the tombstone was written
    :param replica: where
    :param uuid: which bundle
    :param version: which version of it, empty for all
    :param reason: why
    """
    rows = db.execute(
        "SELECT version FROM bundles b WHERE replica = ? AND uuid = ? AND ? IN ('', version) AND NOT EXISTS "
        "(SELECT 1 FROM events e WHERE e.replica = b.replica AND e.uuid = b.uuid AND e.version = b.version "
        "AND e.type = 'TOMBSTONE')",
        (replica, uuid, version),
    ).fetchall()
    for (each,) in rows:
        _note(db, replica, "TOMBSTONE", uuid, each, reason)


def _note(db: sqlite3.Connection, replica: str, kind: str, uuid: str, version: str, reason: str | None) -> None:
    # Never earlier than the last one, even when somebody sets the clock back.
    db.execute(
        "INSERT INTO events VALUES (MAX(?, COALESCE((SELECT MAX(at) FROM events), 0) + 1), ?, ?, ?, ?, ?)",
        (time.time_ns() // 1000, replica, kind, uuid, version, reason),
    )


class EventRecords:
    """All events."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.create(_SCHEMA)

    def between(self, replica: str, begin: int, end: int, limit: int) -> list[Event]:
        """Return the events of a replica from one time, inclusive, to another, exclusive.

        :param replica: where
        :param begin: microseconds since 1970
        :param end: microseconds since 1970
        :param limit: how many at most
        """
        rows = self._db.rows(
            f"SELECT {_EVENT} FROM events WHERE replica = ? AND at >= ? AND at < ? ORDER BY at LIMIT ?",  # noqa: S608 - constant names
            replica,
            begin,
            end,
            limit,
        )
        return [Event(*row) for row in rows]

    def after(self, at: int, limit: int) -> list[Event]:
        """Return the events of both replicas after a time.

        :param at: microseconds since 1970
        :param limit: how many at most
        """
        rows = self._db.rows(f"SELECT {_EVENT} FROM events WHERE at > ? ORDER BY at LIMIT ?", at, limit)  # noqa: S608 - constant names
        return [Event(*row) for row in rows]

    def latest_of(self, replica: str, uuid: str, version: str) -> Event | None:
        """Return the last event of a bundle."""
        rows = self._db.rows(
            f"SELECT {_EVENT} FROM events WHERE replica = ? AND uuid = ? AND version = ? ORDER BY at DESC LIMIT 1",  # noqa: S608 - constant names
            replica,
            uuid,
            version,
        )
        return Event(*rows[0]) if rows else None
