"""The parts put together, and run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from .announce import describe, for_people, write_files
from .app import make_app
from .auth import Authority
from .background import Background
from .checkout_jobs import CheckoutJobs
from .collection_records import CollectionRecords
from .control import token_router, window_router
from .copies import Copies
from .database import Database
from .faults import FaultBook, FaultyFront
from .files_on_disk import Blobs
from .keys import load_secrets
from .objects import Presigner, objects_app
from .services import Services
from .serving import Connections, serve
from .sockets import url_of
from .staging_s3 import S3Server
from .store import Store
from .sync import Sync

if TYPE_CHECKING:
    import argparse
    import socket
    from pathlib import Path

    from .staging import Staging


def run(options: argparse.Namespace, state: Path, listeners: dict[str, socket.socket]) -> None:
    """Run until INT or TERM.

    :param options: the command line, parsed
    :param state: the state directory, which is this process's own
    :param listeners: the bound sockets, by the name of the URL each will have
    """
    urls: dict[str, str | None] = {name: url_of(listener) for name, listener in listeners.items()}
    urls["dss_url"] = f"{urls['dss_url']}/v1"
    urls.setdefault("gcs_url", None)
    secrets = load_secrets(state, f"{url_of(listeners['dss_url'])}/_local/oauth/token")
    about = describe(state, urls, options.bucket, options.audience, secrets)
    write_files(state, about)

    database, blobs = Database(state / "records.sqlite"), Blobs(state / "blobs")
    store, collections = Store(database), CollectionRecords(database)
    servers: list[Any] = [S3Server(state / "s3", options.bucket)]
    stagings: dict[str, Staging] = {"aws": servers[0]}
    servers[0].start(listeners["s3_url"])
    if options.gcs:
        # imported here: who never stages for gcp waits for none of it
        from .staging_gcs import GCSServer

        gcs = GCSServer(state / "gcs", options.bucket)
        gcs.start(listeners["gcs_url"])
        servers.append(gcs)
        stagings["gcp"] = gcs
    copies = Copies(store, blobs, stagings, options.copy_delay)
    checkouts = CheckoutJobs(database, store, blobs, stagings, options.checkout_delay)
    workers: list[Copies | Background] = [copies, Background(checkouts.step)]
    sync = Sync(database, options.sync_delay or 0)  # notes are taken in any case: a later start may copy by them
    if options.sync_delay is not None:
        workers.append(Background(sync.step))
    authority = Authority(secrets, options.audience)
    services = Services(
        store=store,
        collections=collections,
        blobs=blobs,
        stagings=stagings,
        copies=copies,
        checkouts=checkouts,
        authority=authority,
        presigner=Presigner(str(urls["objects_url"]), secrets.url_secret),
        async_above=options.async_above,
        file_wait=options.file_wait,
        checkout_delay=options.checkout_delay,
    )
    book, connections = FaultBook(), Connections()
    controls = [window_router(book, store, collections), token_router(authority, secrets)]
    app = make_app(services, controls, str(urls["dss_url"]))
    front = FaultyFront(app, book, connections.drop)
    objects = objects_app(services.presigner, blobs)

    def ready() -> None:
        print(json.dumps(about) if options.json else for_people(about), flush=True)

    for worker in workers:
        worker.start()
    asyncio.run(
        serve(
            [
                (front, listeners["dss_url"], connections.protocol()),
                (objects, listeners["objects_url"], H11Protocol),
            ],
            ready,
            services.stopping,
        )
    )
    for worker in workers:
        worker.stop()
    for server in servers:
        server.stop()
