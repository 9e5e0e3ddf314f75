"""Records of subscriptions and of pending notifications."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS subscriptions (
    uuid TEXT PRIMARY KEY, replica TEXT, type TEXT, owner TEXT, since INTEGER, body TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notifications (
    number INTEGER PRIMARY KEY, subscription TEXT, payload TEXT, attempts INTEGER, due REAL);
CREATE INDEX IF NOT EXISTS notifications_by_due ON notifications (due);
CREATE TABLE IF NOT EXISTS notified (
    until INTEGER);
"""
_SUBSCRIPTION = "uuid, replica, type, owner, since, body"


@dataclass(frozen=True)
class Subscription:
    """A subscription to the events of a replica.

    :ivar type: `elasticsearch` or `jmespath`
    :ivar owner: e-mail address
    :ivar since: time of the last event before the subscription, in microseconds since 1970
    :ivar body: body of PUT subscription
    """

    uuid: str
    replica: str
    type: str
    owner: str
    since: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Notification:
    """A pending notification."""

    number: int
    subscription: Subscription
    payload: dict[str, Any]
    attempts: int  # failed ones


class SubscriptionRecords:
    """Subscriptions, pending notifications, and the time of the last processed event."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.create(_SCHEMA)
        with database.transaction() as db:
            if not db.execute("SELECT 1 FROM notified").fetchone():
                db.execute("INSERT INTO notified VALUES (0)")
            # An earlier process may have ended during a delivery.
            db.execute("UPDATE notifications SET due = 0")

    def add(self, uuid: str, replica: str, kind: str, owner: str, body: dict[str, Any], limit: int) -> bool:
        """Record a subscription to later events; return False if its owner has `limit` of them in the replica."""
        with self._db.transaction() as db:
            (count,) = db.execute(
                "SELECT COUNT(*) FROM subscriptions WHERE replica = ? AND owner = ?", (replica, owner)
            ).fetchone()
            if count >= limit:
                return False
            db.execute(
                "INSERT INTO subscriptions VALUES (?, ?, ?, ?, COALESCE((SELECT MAX(at) FROM events), 0), ?)",
                (uuid, replica, kind, owner, json.dumps(body)),
            )
        return True

    def find(self, uuid: str, replica: str, kind: str) -> Subscription | None:
        """Return a subscription of any owner, or None."""
        rows = self._db.rows(
            f"SELECT {_SUBSCRIPTION} FROM subscriptions WHERE uuid = ? AND replica = ? AND type = ?",  # noqa: S608 - constant names
            uuid,
            replica,
            kind,
        )
        return _subscription(rows[0]) if rows else None

    def owned_by(self, owner: str, replica: str, kind: str) -> list[Subscription]:
        """Return the subscriptions of an owner."""
        rows = self._db.rows(
            f"SELECT {_SUBSCRIPTION} FROM subscriptions WHERE owner = ? AND replica = ? AND type = ? ORDER BY uuid",  # noqa: S608 - constant names
            owner,
            replica,
            kind,
        )
        return [_subscription(row) for row in rows]

    def all(self) -> list[Subscription]:
        """Return the subscriptions of all owners."""
        return [_subscription(row) for row in self._db.rows(f"SELECT {_SUBSCRIPTION} FROM subscriptions")]  # noqa: S608 - constant names

    def remove(self, uuid: str) -> None:
        """Delete a subscription and its pending notifications."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM subscriptions WHERE uuid = ?", (uuid,))
            db.execute("DELETE FROM notifications WHERE subscription = ?", (uuid,))

    def last_processed(self) -> int:
        """Return the time of the last processed event in microseconds since 1970."""
        return int(self._db.rows("SELECT until FROM notified")[0][0])

    def enqueue(self, until: int, payloads: list[tuple[str, dict[str, Any]]]) -> None:
        """Record the notifications of processed events.

        :param until: time of the last of these events in microseconds since 1970
        :param payloads: subscription uuid and payload of each notification
        """
        with self._db.transaction() as db:
            db.executemany(
                "INSERT INTO notifications (subscription, payload, attempts, due) "
                "SELECT uuid, ?, 0, 0 FROM subscriptions WHERE uuid = ?",  # unless it was deleted meanwhile
                [(json.dumps(payload), uuid) for uuid, payload in payloads],
            )
            db.execute("UPDATE notified SET until = ?", (until,))

    def claim(self, seconds: float) -> Notification | None:
        """Return the notification that is due longest, and reserve it for some seconds."""
        now = time.time()
        with self._db.transaction() as db:
            row = db.execute(
                "SELECT n.number, n.payload, n.attempts, s.uuid, s.replica, s.type, s.owner, s.since, s.body "
                "FROM notifications n JOIN subscriptions s ON s.uuid = n.subscription "
                "WHERE n.due <= ? ORDER BY n.due, n.number LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            db.execute("UPDATE notifications SET due = ? WHERE number = ?", (now + seconds, row[0]))
        return Notification(row[0], _subscription(row[3:]), json.loads(row[1]), row[2])

    def reschedule(self, notification: Notification, seconds: float) -> None:
        """Record a failed delivery that is retried after some seconds."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE notifications SET attempts = attempts + 1, due = ? WHERE number = ?",
                (time.time() + seconds, notification.number),
            )

    def delete(self, notification: Notification) -> None:
        """Delete a notification that was delivered or is given up."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM notifications WHERE number = ?", (notification.number,))


def _subscription(row: tuple[Any, ...]) -> Subscription:
    uuid, replica, kind, owner, since, body = row
    return Subscription(uuid, replica, kind, owner, since, json.loads(body))
