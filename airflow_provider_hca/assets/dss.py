"""Asset URIs of bundles: `dss://host[:port]/replica/uuid.version`.

Airflow imports this module when it parses a DAG that has an asset with a URI, so it has few imports.
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
# A segment that begins like this has to be a bundle; other segments after the replica are custom names.
_BUNDLE = re.compile(r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.(?P<version>.*))?", re.IGNORECASE)


def dss_host(api_url: str) -> str:
    """Return the host of a DSS in a `dss://` URI: `host`, or `host:port` if it is not the default port.

    :param api_url: URL of the DSS's API, as in the host of a connection of type `hca_dss`
    :raises ValueError: if host or port are missing or invalid
    """
    parts = urlsplit(api_url)
    host, port = _host_and_port(parts)
    return host if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"


def bundle_uri(api_url: str, *, replica: str, uuid: str, version: str | None = None) -> str:
    """Return the asset URI of a bundle.

    :param api_url: URL of the DSS's API, as in the host of a connection of type `hca_dss`
    :param replica: `aws` or `gcp`
    :param uuid: UUID of the bundle
    :param version: Version of the bundle, a DSS_VERSION; no particular version if None
    :raises ValueError: if an argument is invalid
    """
    name = check_uuid(uuid) if version is None else f"{check_uuid(uuid)}.{check_version(version)}"
    return f"dss://{dss_host(api_url)}/{check_replica(replica)}/{name}"


def parse_bundle_uri(uri: str) -> tuple[str, str, str, str | None]:
    """Return host, replica, UUID and version of the URI of a bundle; the version is None if it names none.

    :param uri: Asset URI
    :raises ValueError: if it is not that of a bundle
    """
    parts = urlsplit(uri)
    replica, _, name = parts.path.removeprefix("/").partition("/")
    match = _BUNDLE.fullmatch(name)
    if parts.scheme != "dss" or match is None:
        raise ValueError(f"{uri!r} is not the URI of a bundle")
    version = match["version"]
    return parts.netloc, check_replica(replica), check_uuid(match["uuid"]), version and check_version(version)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return a normalized `dss://` URI: host and UUID in lower case, no slash at the end (`asset-uris`).

    The replica may be followed by nothing, the UUID of a bundle, its `uuid.version`, or a custom path.

    :param uri: URI, as split by Airflow
    :raises ValueError: if it is invalid; the message does not quote user and query, which may be secrets
    """
    try:
        host, port = _host_and_port(uri)
        path = uri.path.rstrip("/")
        if "@" in uri.netloc or uri.query or uri.fragment:
            raise ValueError("user, query and fragment are not allowed")
        replica, *names = path.removeprefix("/").split("/")
        check_replica(replica)
        if "" in names:
            raise ValueError("the path has an empty segment")
        names[:1] = [_bundle_or_name(name, last=len(names) == 1) for name in names[:1]]
    except ValueError as error:
        without_secrets = f"dss://{uri.netloc.rpartition('@')[2]}{uri.path}"
        raise ValueError(
            f"{without_secrets!r} is not a valid dss:// URI: {error}. Use dss://host[:port]/replica, followed by "
            "/uuid.version of a bundle, /uuid, or a custom path"
        ) from None
    return SplitResult("dss", host if port is None else f"{host}:{port}", "/".join(("", replica, *names)), "", "")


def to_openlineage(asset: Any, lineage_context: Any) -> OpenLineageDataset:  # noqa: ARG001 - Airflow's signature
    """Return an asset as an OpenLineage dataset: `dss://host[:port]`, `replica/uuid.version` (`asset-uris`).

    :param asset: Asset with a normalized `dss://` URI
    :param lineage_context: Not used
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"dss://{parts.netloc}", name=parts.path.removeprefix("/"))


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    host = parts.hostname or ""
    if not host or host != host.strip():
        raise ValueError("the host is missing")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port must be a number from 0 to 65535") from None
    return f"[{host}]" if ":" in host else host, port


def _bundle_or_name(segment: str, *, last: bool) -> str:
    match = _BUNDLE.fullmatch(segment)
    if match is None:
        return segment
    if not last:
        raise ValueError("nothing may follow the UUID of a bundle")
    uuid, version = check_uuid(match["uuid"]), match["version"]
    return uuid if version is None else f"{uuid}.{check_version(version)}"
