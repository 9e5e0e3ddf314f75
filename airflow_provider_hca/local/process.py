"""The parts put together, and run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

from .announce import describe, for_people, write_files
from .app import make_app
from .assembly import assemble, start_stores
from .control import token_router, window_router
from .faults import FaultBook, FaultyFront
from .keys import load_secrets
from .objects import objects_app
from .serving import Connections, serve
from .sockets import url_of

if TYPE_CHECKING:
    import argparse
    import socket
    from pathlib import Path


def run(options: argparse.Namespace, state: Path, listeners: dict[str, socket.socket]) -> bool:
    """Run until INT or TERM; return whether it was INT.

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

    stores = start_stores(options, state, listeners)
    services, workers = assemble(options, state, stores, str(urls["objects_url"]), secrets)
    book, connections = FaultBook(), Connections()
    controls = [window_router(book, services), token_router(services.authority, secrets)]
    app = make_app(services, controls, str(urls["dss_url"]))
    front = FaultyFront(app, book, connections.drop)
    objects = objects_app(services.presigner, services.blobs, services.journals)

    def ready() -> None:
        print(json.dumps(about) if options.json else for_people(about), flush=True)

    for worker in workers:
        worker.start()
    interrupted = asyncio.run(
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
    for store in stores.values():
        store.stop()
    return interrupted
