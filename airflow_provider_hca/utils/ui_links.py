"""What tasks leave for the page in the Airflow UI, and where on the page a bundle is.

Both sides meet here: operators write it, as XComs, and the page (`airflow_provider_hca.plugins`) reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import Replica, check_replica

# Where Airflow itself keeps what `DSSBundleLink` returns; an extra link that a running task has pushed is there too.
LINK_KEY = "_link_DSSBundleLink"
PROGRESS_KEY = "dss_progress"
ROUTE = "/hca-dss"  # of the page itself
FRAME = "/plugin/dss"  # of the page with Airflow around it


@dataclass(frozen=True, slots=True)
class BundleAddress:
    """Where a bundle is.

    :ivar conn_id: Airflow connection to its DSS
    :ivar version: None is the latest
    """

    conn_id: str
    replica: Replica
    uuid: str
    version: str | None = None

    @classmethod
    def checked(cls, conn_id: str, replica: str, uuid: str, version: str | None) -> Self:
        """Return an address.

        :raises ValueError: when it is none
        """
        return cls(conn_id, check_replica(replica), check_uuid(uuid), check_version(version) if version else None)

    def on_page(self, base_url: str) -> str:
        """Return where the bundle's page is, with Airflow around it, as a path: a link of Airflow is seen in Airflow.

        :param base_url: of Airflow (`[api] base_url`); may be empty
        """
        root = urlsplit(base_url).path.rstrip("/")
        query = {"connection": self.conn_id, "replica": self.replica, "uuid": self.uuid, "version": self.version}
        told = urlencode({name: value for name, value in query.items() if value})
        # Behind its own route a frame has the whole path of what is in it.
        return f"{root}{FRAME}{root}{ROUTE}/bundle?{told}"

    def at_dss(self, api_url: str) -> str:
        """Return the URL at which the DSS itself tells of the bundle (`GET /bundles/{uuid}`).

        :param api_url: of the DSS's API
        """
        told = urlencode({"replica": self.replica} | ({"version": self.version} if self.version else {}))
        return f"{api_url}/bundles/{self.uuid}?{told}"

    @classmethod
    def of(cls, link: Any) -> Self | None:
        """Return what `on_page` was made of, or None if it is something else.

        :param link: what a task left, which may be anything
        """
        if not isinstance(link, str) or FRAME not in link:
            return None
        try:
            told = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
            return cls.checked(told["connection"], told["replica"], told["uuid"], told.get("version"))
        except (KeyError, ValueError):
            return None
