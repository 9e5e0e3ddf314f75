"""Two children of a process with an open connection send requests at once; each must receive its own responses.

Started as a process, since a test process has threads, and forking those is not safe.
"""

from __future__ import annotations

import os
import sys

from airflow_provider_hca.client.bulk import run_bulk
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport

from .drivers import call, get


def main(url: str) -> int:
    """Return the exit code.

    :param url: URL of a server that answers with the path of the request
    """
    with RequestsTransport() as transport:
        assert transport.run(call(get(f"{url}/parent"))).body == b"/parent"
        assert _bodies(transport, [f"{url}/parent"]) == [b"/parent"]
        held = RateLimiter()
        held._lock.acquire()  # noqa: SLF001 - as a thread of the parent would
        children = [child for child in range(2) if os.fork() == 0]
        if children:
            held.reserve()
            paths = [f"/{children[0]}/{number}" for number in range(100)]
            for path in paths:
                if transport.run(call(get(url + path))).body != path.encode():
                    os._exit(1)
            bodies = _bodies(transport, [url + path for path in paths])
            transport.close()
            os._exit(bodies != sorted(path.encode() for path in paths))
        return max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))


def _bodies(transport: RequestsTransport, urls: list[str]) -> list[bytes]:
    """Request URLs in the event loop of a transport, and return the sorted bodies."""
    bodies: list[bytes] = []

    def read(url: str) -> Call[None]:
        bodies.append((yield get(url)).body)

    failures = run_bulk(
        urls, read, transport=transport, concurrency=4, continue_after=lambda _: False, on_progress=lambda _: None
    )
    assert failures == []
    return sorted(bodies)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
