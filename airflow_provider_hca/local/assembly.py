"""The parts put together: object stores, records, and what works in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .auth import Authority
from .background import Background
from .checkout_jobs import CheckoutJobs
from .collection_records import CollectionRecords
from .copies import Copies
from .database import Database
from .event_records import EventRecords
from .files_on_disk import Blobs
from .journals import Journals
from .manifests import Manifests
from .notifications import Notifications
from .objects import Presigner
from .services import Services
from .staging import Staging
from .staging_s3 import S3Server
from .store import Store
from .subscription_records import SubscriptionRecords
from .sync import Sync

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from .keys import Secrets

_DELIVERERS = 4  # notifications that are delivered at once: a subscriber may take its time to answer


class ObjectStore(Staging, Protocol):
    """The server of an object store, running."""

    def stop(self, patience: float = 1.0) -> None:
        """Take no more requests and let the running ones finish, for at most `patience` seconds."""


class Worker(Protocol):
    """Something that works in the background."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Begin nothing more."""


def start_stores(
    options: argparse.Namespace, state: Path, listeners: Mapping[str, socket.socket]
) -> dict[str, ObjectStore]:
    """Return the object stores by the replica they are for, running.

    :param options: the command line, parsed
    :param state: the state directory
    :param listeners: the bound sockets, by the name of the URL each will have
    """
    s3 = S3Server(state / "s3", options.bucket)
    s3.start(listeners["s3_url"])
    if not options.gcs:
        return {"aws": s3}
    # imported here: who never stages for gcp waits for none of it
    from .staging_gcs import GCSServer

    gcs = GCSServer(state / "gcs", options.bucket)
    gcs.start(listeners["gcs_url"])
    return {"aws": s3, "gcp": gcs}


def assemble(
    options: argparse.Namespace, state: Path, stagings: Mapping[str, Staging], objects_url: str, secrets: Secrets
) -> tuple[Services, list[Worker]]:
    """Return what the endpoints work with, and what is to work in the background.

    :param options: the command line, parsed
    :param state: the state directory
    :param stagings: the object stores by the replica they are for
    :param objects_url: the origin of presigned URLs
    :param secrets: of the state directory
    """
    database, blobs = Database(state / "records.sqlite"), Blobs(state / "blobs")
    sync = Sync(database, options.sync_delay or 0)  # notes are taken in any case: a later start may copy by them
    events, store, subscriptions = EventRecords(database), Store(database), SubscriptionRecords(database)
    copies = Copies(store, blobs, stagings, options.copy_delay)
    checkouts = CheckoutJobs(database, store, blobs, stagings, options.checkout_delay)
    journals = Journals(events, store, blobs)
    notifications = Notifications(subscriptions, journals)
    steps = [checkouts.step, notifications.find, *([notifications.deliver] * _DELIVERERS)]
    if options.sync_delay is not None:
        steps.append(sync.step)
    services = Services(
        store=store,
        manifests=Manifests(store),
        collections=CollectionRecords(database),
        blobs=blobs,
        stagings=stagings,
        copies=copies,
        checkouts=checkouts,
        journals=journals,
        subscriptions=subscriptions,
        authority=Authority(secrets, options.audience),
        presigner=Presigner(objects_url, secrets.url_secret),
        async_above=options.async_above,
        file_wait=options.file_wait,
        checkout_delay=options.checkout_delay,
    )
    return services, [copies, *(Background(step) for step in steps)]
