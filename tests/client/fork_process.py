"""Two children of a process with an open connection send requests at once; each must receive its own responses.

Started as a process, since a test process has threads, and forking those is not safe.
"""

from __future__ import annotations

import os
import sys

from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.transport import RequestsTransport

from .drivers import call, get


def main(url: str) -> int:
    """Return the exit code.

    :param url: URL of a server that answers with the path of the request
    """
    with RequestsTransport() as transport:
        assert transport.run(call(get(f"{url}/parent"))).body == b"/parent"
        held = RateLimiter()
        held._lock.acquire()  # noqa: SLF001 - as a thread of the parent would
        children = [child for child in range(2) if os.fork() == 0]
        if children:
            held.reserve()
            for number in range(200):
                path = f"/{children[0]}/{number}"
                if transport.run(call(get(url + path))).body != path.encode():
                    os._exit(1)
            os._exit(0)
        return max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
