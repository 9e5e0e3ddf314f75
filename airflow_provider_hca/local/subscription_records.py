"""The records of subscriptions, and of the notifications that are still to be delivered."""

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
    """Somebody's wish to be told of what happens to bundles in one replica."""

    uuid: str
    replica: str
    type: str  # elasticsearch or jmespath
    owner: str  # an e-mail address
    since: int  # the time of the last event that it is too late for, in microseconds since 1970
    body: dict[str, Any]  # what was put


@dataclass(frozen=True)
class Notification:
    """What is to be delivered."""

    number: int
    subscription: Subscription
    payload: dict[str, Any]
    attempts: int  # that failed so far


class SubscriptionRecords:
    """All subscriptions, how far their events were looked through, and what is to be delivered."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.create(_SCHEMA)
        with database.transaction() as db:
            if not db.execute("SELECT 1 FROM notified").fetchone():
                db.execute("INSERT INTO notified VALUES (0)")
            # An earlier process may have ended amidst a delivery.
            db.execute("UPDATE notifications SET due = 0")

    def add(self, uuid: str, replica: str, kind: str, owner: str, body: dict[str, Any], limit: int) -> bool:
        """Record a subscription to events from now on, unless its owner has enough; tell whether that was done.

        :param uuid: its uuid
        :param replica: whose events
        :param kind: elasticsearch or jmespath
        :param owner: an e-mail address
        :param body: what was put
        :param limit: how many subscriptions an owner may have in a replica
        """
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
        """Return a subscription, whosever it is."""
        rows = self._db.rows(
            f"SELECT {_SUBSCRIPTION} FROM subscriptions WHERE uuid = ? AND replica = ? AND type = ?",  # noqa: S608 - constant names
            uuid,
            replica,
            kind,
        )
        return _subscription(rows[0]) if rows else None

    def of(self, owner: str, replica: str, kind: str) -> list[Subscription]:
        """Return all subscriptions somebody has."""
        rows = self._db.rows(
            f"SELECT {_SUBSCRIPTION} FROM subscriptions WHERE owner = ? AND replica = ? AND type = ? ORDER BY uuid",  # noqa: S608 - constant names
            owner,
            replica,
            kind,
        )
        return [_subscription(row) for row in rows]

    def everybodys(self) -> list[Subscription]:
        """Return all subscriptions there are."""
        return [_subscription(row) for row in self._db.rows(f"SELECT {_SUBSCRIPTION} FROM subscriptions")]  # noqa: S608 - constant names

    def remove(self, uuid: str) -> None:
        """Drop a subscription, and what was still to be delivered to it."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM subscriptions WHERE uuid = ?", (uuid,))
            db.execute("DELETE FROM notifications WHERE subscription = ?", (uuid,))

    def notified_until(self) -> int:
        """Return the time of the last event that was looked through, in microseconds since 1970."""
        return int(self._db.rows("SELECT until FROM notified")[0][0])

    def notify(self, until: int, payloads: list[tuple[str, dict[str, Any]]]) -> None:
        """Record what events lead to, and that they were looked through.

        :param until: the time of the last of them, in microseconds since 1970
        :param payloads: what is to be delivered, each with the uuid of its subscription
        """
        with self._db.transaction() as db:
            db.executemany(
                "INSERT INTO notifications (subscription, payload, attempts, due) "
                "SELECT uuid, ?, 0, 0 FROM subscriptions WHERE uuid = ?",  # it may have been deleted meanwhile
                [(json.dumps(payload), uuid) for uuid, payload in payloads],
            )
            db.execute("UPDATE notified SET until = ?", (until,))

    def take(self, seconds: float) -> Notification | None:
        """Return the notification that is due the longest; nobody else gets it for a while.

        :param seconds: how long
        """
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

    def put_off(self, notification: Notification, seconds: float) -> None:
        """Record that a delivery failed.

        :param notification: what could not be delivered
        :param seconds: when to try again
        """
        with self._db.transaction() as db:
            db.execute(
                "UPDATE notifications SET attempts = attempts + 1, due = ? WHERE number = ?",
                (time.time() + seconds, notification.number),
            )

    def drop(self, notification: Notification) -> None:
        """Record that a notification needs no more attempts."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM notifications WHERE number = ?", (notification.number,))


def _subscription(row: tuple[Any, ...]) -> Subscription:
    uuid, replica, kind, owner, since, body = row
    return Subscription(uuid, replica, kind, owner, since, json.loads(body))
