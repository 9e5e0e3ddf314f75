"""What a bundle is called where Airflow and OpenLineage speak of data: `dss://host[:port]/replica/uuid.version`.

Airflow imports this when it parses a DAG that has an asset with a URI, so it stays small.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_hca.client.identifiers import check_uuid, check_version
from airflow_provider_hca.client.models import check_replica

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset as OpenLineageDataset

_DEFAULT_PORTS = {"https": 443, "http": 80}
# What begins like this is meant as a bundle. Anything else after the replica is a name that somebody made up.
_BUNDLE = re.compile(r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.(?P<version>.*))?", re.IGNORECASE)


def dss_host(api_url: str) -> str:
    """Return which DSS it is in a `dss://` URI: `host`, or `host:port` where the port is not that of the scheme.

    :param api_url: of the DSS's API, such as a connection of type `hca_dss` has as its host
    :raises ValueError: when it has no host, or its port is none
    """
    parts = urlsplit(api_url)
    host, port = _host_and_port(parts)
    return host if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"


def bundle_uri(api_url: str, *, replica: str, uuid: str, version: str | None = None) -> str:
    """Return what a bundle is called as an asset.

    :param api_url: of the DSS's API, such as a connection of type `hca_dss` has as its host
    :param replica: `aws` or `gcp`
    :param uuid: of the bundle
    :param version: of the bundle, a DSS_VERSION; the bundle in whichever version if None
    :raises ValueError: when one of them is not well-formed
    """
    name = check_uuid(uuid) if version is None else f"{check_uuid(uuid)}.{check_version(version)}"
    return f"dss://{dss_host(api_url)}/{check_replica(replica)}/{name}"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return a `dss://` URI as it is compared: host and uuid in lower case, no slash at the end (`asset-uris`).

    After the replica there may be nothing, a bundle's uuid, a bundle's `uuid.version`, or a path of one's own.

    :param uri: as Airflow has split it
    :raises ValueError: when it is none; user and query are not quoted, since they may be secrets
    """
    try:
        host, port = _host_and_port(uri)
        path = uri.path.rstrip("/")
        if "@" in uri.netloc or uri.query or uri.fragment:
            raise ValueError("it has a user, a query or a fragment, which name no data")
        replica, *names = path.removeprefix("/").split("/")
        check_replica(replica)
        if "" in names:
            raise ValueError("its path has an empty segment")
        names[:1] = [_bundle_or_name(name, last=len(names) == 1) for name in names[:1]]
    except ValueError as error:
        told = f"dss://{uri.netloc.rpartition('@')[2]}{uri.path}"
        raise ValueError(
            f"{told!r} is not a valid dss:// URI: {error}. It should be dss://host[:port]/replica, then /uuid.version "
            "of a bundle, /uuid, or a path of your own"
        ) from None
    return SplitResult("dss", host if port is None else f"{host}:{port}", "/".join(("", replica, *names)), "", "")


def to_openlineage(asset: Any, lineage_context: Any) -> OpenLineageDataset:  # noqa: ARG001 - Airflow's signature
    """Return what an asset of a DSS is to OpenLineage: `dss://host[:port]` and `replica/uuid.version` (`asset-uris`).

    :param asset: with a `dss://` URI as `sanitize_uri` returns it
    :param lineage_context: of no use here
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"dss://{parts.netloc}", name=parts.path.removeprefix("/"))


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    host = parts.hostname or ""
    if not host or host != host.strip():
        raise ValueError("it names no host")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("its port is no number from 0 to 65535") from None
    return f"[{host}]" if ":" in host else host, port


def _bundle_or_name(segment: str, *, last: bool) -> str:
    match = _BUNDLE.fullmatch(segment)
    if match is None:
        return segment
    if not last:
        raise ValueError("nothing goes after a bundle's uuid")
    uuid, version = check_uuid(match["uuid"]), match["version"]
    return uuid if version is None else f"{uuid}.{check_version(version)}"
