"""Change a bundle or a collection in a process of its own, which tests kill.

Reads one JSON object from its input. Prints the versions that it creates of a collection, each at once, and finally the
result as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import StaticToken
from airflow_provider_hca.client.transport import RequestsTransport


def main() -> None:
    """Apply the change of the input."""
    wish = json.load(sys.stdin)
    dss = DSSAPI(wish["url"], auth=StaticToken(wish["token"]))
    if wish["what"] == "bundle":
        change = dss.change_bundle(wish["uuid"], version=wish["version"], replica="aws", add_files=wish["add"])
    else:
        change = dss.change_collection(
            wish["uuid"],
            wish["version"],
            replica="aws",
            add_contents=wish["add"],
            resume_from=wish["reached"],
            on_version=lambda version: print(version, flush=True),
        )
    with RequestsTransport() as transport:
        print(json.dumps(asdict(transport.run(change))), flush=True)


if __name__ == "__main__":
    main()
