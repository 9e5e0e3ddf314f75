"""The parts put together: object stores, records, and what works in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .auth import Authority
from .background import Background
from .blob_store import Blobs
from .checkout_jobs import CheckoutJobs
from .collection_records import CollectionRecords
from .copies import Copies
from .database import Database
from .event_records import EventRecords
from .journals import Journals
from .manifests import Manifests
from .notifications import Notifications
from .objects import Presigner
from .s3_objects import S3Objects
from .services import Services
from .staging import Staging
from .store import Store
from .subscription_records import SubscriptionRecords
from .sync import Sync

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from .keys import Secrets
    from .staging_gcs import GCSServer

_DELIVERERS = 4  # notifications that are delivered at once: a subscriber may take its time to answer


class Worker(Protocol):
    """Something that works in the background."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Begin nothing more."""


def open_s3(state: Path, bucket: str) -> S3Objects:
    """Return the object store of the replica `aws`.

    :param state: the state directory
    :param bucket: the staging bucket
    """
    return S3Objects(state / "s3", bucket)


def start_gcs(state: Path, bucket: str, listener: socket.socket) -> GCSServer:
    """Return the object store of the replica `gcp`, with its server running.

    :param state: the state directory
    :param bucket: the staging bucket
    :param listener: the bound socket
    """
    # Imported here: the emulator takes half a second, and is optional.
    from .staging_gcs import GCSServer

    gcs = GCSServer(state / "gcs", bucket)
    gcs.start(listener)
    return gcs


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
