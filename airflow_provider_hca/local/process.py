"""The parts put together, and run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import uvloop

from .admin_api import token_router, window_router
from .app import make_app
from .assembly import assemble, open_s3, start_gcs
from .faults import FaultBook, FaultyFront
from .keys import load_secrets
from .objects import objects_app
from .s3_server import S3Server
from .serving import Connections, serve
from .sockets import url_of
from .startup_info import describe, for_people, write_files

if TYPE_CHECKING:
    import argparse
    import socket
    from pathlib import Path

    from starlette.types import ASGIApp

    from .staging import Staging


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

    s3 = open_s3(state, options.bucket)
    gcs = start_gcs(state, options.bucket, listeners["gcs_url"]) if options.gcs else None
    stagings: dict[str, Staging] = {"aws": s3, **({"gcp": gcs} if gcs else {})}
    services, workers = assemble(options, state, stagings, str(urls["objects_url"]), secrets)
    book, connections = FaultBook(), Connections()
    controls = [window_router(book, services), token_router(services.authority, secrets)]
    app = make_app(services, controls, str(urls["dss_url"]))
    front = FaultyFront(app, book, connections.drop)
    objects = objects_app(services.presigner, services.blobs, services.journals)

    def ready() -> None:
        print(json.dumps(about) if options.json else for_people(about), flush=True)

    for worker in workers:
        worker.start()
    applications: list[tuple[ASGIApp, socket.socket]] = [
        (front, listeners["dss_url"]),
        (objects, listeners["objects_url"]),
        (S3Server(s3), listeners["s3_url"]),
    ]
    interrupted = uvloop.run(serve(applications, connections, ready, services.stopping))
    for worker in workers:
        worker.stop()
    if gcs:
        gcs.stop()
    return interrupted
