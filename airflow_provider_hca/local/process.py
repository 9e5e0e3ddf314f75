"""Build the parts of the local DSS and run them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import uvloop

from .admin_api import admin_router, token_router
from .app import create_app
from .auth import Authority
from .background import BackgroundLoop
from .blob_store import BlobStore
from .checkout_jobs import CheckoutJobs
from .collection_records import CollectionRecords
from .copies import Copies
from .database import Database
from .dependencies import Services
from .event_records import EventRecords
from .faults import FaultMiddleware, FaultRegistry
from .journals import Journals
from .keys import load_secrets
from .manifests import Processes
from .notifications import Notifications
from .presigned import Presigner, objects_app
from .s3.server import S3Server
from .s3.storage import S3Storage
from .serving import Connections, serve
from .sockets import url_of
from .startup_info import startup_info, startup_text, write_files
from .store import Store
from .subscription_records import SubscriptionRecords
from .sync import Sync

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.types import ASGIApp

    from .background import Worker
    from .keys import Secrets
    from .staging import StagingStore
    from .staging_gcs import GCSServer

_DELIVERY_THREADS = 4  # a slow subscriber must not delay the others


def run(options: argparse.Namespace, state: Path, listeners: dict[str, socket.socket]) -> bool:
    """Run until SIGINT or SIGTERM; return whether it was SIGINT.

    :param options: parsed command line
    :param state: state directory, locked for this process
    :param listeners: bound sockets by the name of their URL
    """
    urls: dict[str, str | None] = {name: url_of(listener) for name, listener in listeners.items()}
    urls["dss_url"] = f"{urls['dss_url']}/v1"
    urls.setdefault("gcs_url", None)
    secrets = load_secrets(state, f"{url_of(listeners['dss_url'])}/_local/oauth/token")
    info = startup_info(state, urls, options.bucket, options.audience, secrets)
    write_files(state, info)

    s3 = S3Storage(state / "s3", options.bucket)
    gcs = _start_gcs(state, options.bucket, listeners["gcs_url"]) if options.gcs else None
    staging_stores: dict[str, StagingStore] = {"aws": s3, **({"gcp": gcs} if gcs else {})}
    services, workers = build_services(options, state, staging_stores, str(urls["objects_url"]), secrets)
    faults, connections = FaultRegistry(), Connections()
    admin_routers = [admin_router(faults, services), token_router(services.authority, secrets)]
    app = create_app(services, admin_routers, str(urls["dss_url"]))

    def ready() -> None:
        print(json.dumps(info) if options.json else startup_text(info), flush=True)

    for worker in workers:
        worker.start()
    applications: list[tuple[ASGIApp, socket.socket]] = [
        (FaultMiddleware(app, faults, connections.drop), listeners["dss_url"]),
        (objects_app(services.presigner, services.blobs, services.journals), listeners["objects_url"]),
        (S3Server(s3), listeners["s3_url"]),
    ]
    interrupted = uvloop.run(serve(applications, connections, ready, services.stopping))
    for worker in workers:
        worker.stop()
    if gcs:
        gcs.stop()
    return interrupted


def _start_gcs(state: Path, bucket: str, listener: socket.socket) -> GCSServer:
    from .staging_gcs import GCSServer  # optional, and takes 0.5 s to import

    gcs = GCSServer(state / "gcs", bucket)
    gcs.start(listener)
    return gcs


def build_services(
    options: argparse.Namespace,
    state: Path,
    staging_stores: Mapping[str, StagingStore],
    objects_url: str,
    secrets: Secrets,
) -> tuple[Services, list[Worker]]:
    """Return what the routes use, and the background workers."""
    database, blobs = Database(state / "records.sqlite"), BlobStore(state / "blobs")
    sync = Sync(database, options.sync_delay or 0)  # changes are recorded even if off: a later start may copy them
    events, store, subscriptions = EventRecords(database), Store(database), SubscriptionRecords(database)
    copies = Copies(store, blobs, staging_stores, options.copy_delay)
    checkouts = CheckoutJobs(database, store, blobs, staging_stores, options.checkout_delay)
    journals = Journals(events, store, blobs)
    notifications = Notifications(subscriptions, journals)
    steps = [checkouts.step, notifications.match_events, *([notifications.deliver] * _DELIVERY_THREADS)]
    if options.sync_delay is not None:
        steps.append(sync.step)
    services = Services(
        store=store,
        processes=Processes(store, options.processes),
        collections=CollectionRecords(database),
        blobs=blobs,
        staging_stores=staging_stores,
        copies=copies,
        checkouts=checkouts,
        journals=journals,
        subscriptions=subscriptions,
        authority=Authority(secrets, options.audience),
        presigner=Presigner(objects_url, secrets.url_secret),
        async_above=options.async_above,
        file_wait=options.file_wait,
        checkout_delay=options.checkout_delay,
        retry_after=options.retry_after,
    )
    return services, [copies, *(BackgroundLoop(step) for step in steps)]
