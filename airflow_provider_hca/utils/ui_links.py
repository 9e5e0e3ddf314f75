"""Links to bundles, and the XComs for the page in the Airflow UI.

Operators push the XComs, and the page (`airflow_provider_hca.plugins`) reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import Replica, check_replica

# Airflow stores the URL of `DSSBundleLink` under this key when a task ends; running tasks push it themselves.
LINK_KEY = "_link_DSSBundleLink"
PROGRESS_KEY = "dss_progress"
REPORT_KEY = "report"  # of a batch
ERROR_KEY = "dss_error"
NAME_KEY = "dss_bundle_name"
ROUTE = "/hca-dss"  # the page
FRAME = "/plugin/dss"  # the page embedded in the Airflow UI


@dataclass(frozen=True, slots=True)
class BundleAddress:
    """Address of a bundle.

    :ivar conn_id: Airflow connection to its DSS
    :ivar version: Version of the bundle; the latest if None
    """

    conn_id: str
    replica: Replica
    uuid: str
    version: str | None = None

    @classmethod
    def checked(cls, conn_id: str, replica: str, uuid: str, version: str | None) -> Self:
        """Return a validated address.

        :raises ValueError: if an argument is invalid
        """
        return cls(conn_id, check_replica(replica), check_uuid(uuid), check_version(version) if version else None)

    def on_page(self, base_url: str) -> str:
        """Return the path of the bundle's page, embedded in the Airflow UI.

        :param base_url: URL of Airflow (`[api] base_url`); may be empty
        """
        root = urlsplit(base_url).path.rstrip("/")
        query = {"connection": self.conn_id, "replica": self.replica, "uuid": self.uuid, "version": self.version}
        parameters = urlencode({name: value for name, value in query.items() if value})
        # The route of a frame is followed by the whole path of the embedded page.
        return f"{root}{FRAME}{root}{ROUTE}/bundle?{parameters}"

    def at_dss(self, api_url: str) -> str:
        """Return the URL of the bundle in the DSS's API (`GET /bundles/{uuid}`).

        :param api_url: URL of the DSS's API
        """
        parameters = urlencode({"replica": self.replica} | ({"version": self.version} if self.version else {}))
        return f"{api_url}/bundles/{self.uuid}?{parameters}"

    @classmethod
    def of(cls, link: Any) -> Self | None:
        """Return the address in a link from `on_page`, or None for any other value.

        :param link: XCom of a task
        """
        if not isinstance(link, str) or FRAME not in link:
            return None
        try:
            query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
            return cls.checked(query["connection"], query["replica"], query["uuid"], query.get("version"))
        except (KeyError, ValueError):
            return None
