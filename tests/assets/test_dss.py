from __future__ import annotations

import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from airflow.providers.common.compat.sdk import Asset, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.assets.dss import bundle_uri, dss_host, sanitize_uri, to_openlineage

UUID = "ce55fd51-7833-469b-be0b-5da88ebebfcd"
VERSION = "2018-12-31T235959.000001Z"


def sanitized(uri: str) -> str:
    return urlunsplit(sanitize_uri(urlsplit(uri)))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://dss.example.org/v1", "dss.example.org"),
        ("https://DSS.example.org:443/v1", "dss.example.org"),
        ("http://127.0.0.1:8080/v1", "127.0.0.1:8080"),
        ("http://localhost:80/v1", "localhost"),
        ("https://localhost:80/v1", "localhost:80"),
        ("https://user:secret@dss.example.org/v1", "dss.example.org"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
    ],
)
def test_a_dss_is_called_by_its_host(url: str, host: str) -> None:
    """A DSS is its host, in lower case and without a user, and its port unless that goes without saying."""
    assert dss_host(url) == host


def test_a_bundle_is_called_by_host_replica_and_fqid() -> None:
    """The URI of a bundle has its DSS, its replica, its uuid in lower case and, unless it is all, its version."""
    url = "https://dss.example.org/v1"
    expected = f"dss://dss.example.org/aws/{UUID}"
    assert bundle_uri(url, replica="aws", uuid=UUID.upper(), version=VERSION) == f"{expected}.{VERSION}"
    assert bundle_uri(url, replica="aws", uuid=UUID) == expected


@pytest.mark.parametrize("change", [{"replica": "azure"}, {"uuid": "x"}, {"version": "1"}, {"api_url": "dss"}])
def test_what_is_no_bundle_has_no_uri(change: dict[str, Any]) -> None:
    """A replica, uuid, version or address that is not well-formed is refused."""
    given = {"api_url": "https://dss.example.org", "replica": "aws", "uuid": UUID, "version": VERSION, **change}
    with pytest.raises(ValueError, match=r"must be|host is missing"):
        bundle_uri(**given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"dss://DSS.example.org/aws/{UUID.upper()}.{VERSION}", f"dss://dss.example.org/aws/{UUID}.{VERSION}"),
        (f"DSS://dss.example.org:8080/gcp/{UUID}/", f"dss://dss.example.org:8080/gcp/{UUID}"),
        ("dss://dss.example.org/aws", "dss://dss.example.org/aws"),
        ("dss://dss.example.org/aws/Cells/42/", "dss://dss.example.org/aws/Cells/42"),
        ("dss://[::1]:8080/aws/a", "dss://[::1]:8080/aws/a"),
    ],
)
def test_uris_are_normalised(given: str, expected: str) -> None:
    """Airflow's own assets have the host and a uuid in lower case, and a path of one's own as it is."""
    assert Asset(uri=given).uri == sanitized(given) == expected


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("dss:///aws/x", "the host is missing"),
        ("dss://dss.example.org/", "replica must be one of aws, gcp, not ''"),
        ("dss://dss.example.org/azure/x", "replica must be one of aws, gcp, not 'azure'"),
        ("dss://dss.example.org:port/aws/x", "the port must be a number"),
        (f"dss://dss.example.org/aws/{UUID}.latest", "version must be a DSS_VERSION"),
        (f"dss://dss.example.org/aws/{UUID}.", "version must be a DSS_VERSION"),
        ("dss://dss.example.org/aws/ce55fd51-7833-469b-0e0b-5da88ebebfcd", "uuid must be a uuid"),
        (f"dss://dss.example.org/aws/{UUID}.{VERSION}/file", "nothing may follow the UUID of a bundle"),
        ("dss://dss.example.org/aws//x", "an empty segment"),
        ("dss://dss.example.org/aws/x?version=1", "user, query and fragment are not allowed"),
    ],
)
def test_what_is_no_uri_of_a_dss_is_refused(uri: str, why: str) -> None:
    """An asset that means nothing is an error that says why, when the DAG is parsed; Airflow 2 can only warn."""
    with pytest.raises(ValueError, match=why):
        sanitized(uri)
    if AIRFLOW_V_3_0_PLUS or conf.getboolean("core", "strict_dataset_uri_validation", fallback=False):
        with pytest.raises(ValueError, match=why):
            Asset(uri=uri)
    else:
        with pytest.warns(UserWarning, match=why):
            Asset(uri=uri)


def test_a_secret_in_a_uri_is_not_quoted() -> None:
    """The error about a user or a query in a URI has neither."""
    with pytest.raises(ValueError, match="user, query and fragment") as caught:
        sanitized("dss://s3cret@dss.example.org/aws/x?token=s3cret")
    assert "s3cret" not in str(caught.value)


def test_openlineage_has_it_as_namespace_and_name() -> None:
    """To OpenLineage the DSS is the namespace, and what follows in the URI is the name."""
    dataset = to_openlineage(Asset(uri=f"dss://dss.example.org:8080/aws/{UUID}.{VERSION}"), None)
    assert (dataset.namespace, dataset.name) == ("dss://dss.example.org:8080", f"aws/{UUID}.{VERSION}")


def test_airflow_finds_the_converter() -> None:
    """OpenLineage's provider converts an asset with such a URI by way of this provider's description."""
    from airflow.providers.openlineage.utils.utils import translate_airflow_asset

    dataset = translate_airflow_asset(Asset(uri=f"dss://dss.example.org/aws/{UUID.upper()}"), None)
    assert dataset is not None
    assert (dataset.namespace, dataset.name) == ("dss://dss.example.org", f"aws/{UUID}")


def test_a_dag_with_such_an_asset_parses_quickly() -> None:
    """What Airflow imports for the scheme brings in nothing but the checks of uuids, versions and replicas."""
    code = "import sys, urllib.parse; before = set(sys.modules); import airflow_provider_hca.assets.dss; print("
    code += "*sorted(name for name in set(sys.modules) - before if name.startswith('airflow')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package = "airflow_provider_hca"
    assert done.stdout.split() == [
        *(package, f"{package}.assets", f"{package}.assets.dss"),
        *(f"{package}.client{name}" for name in ("", ".identifiers", ".models")),
    ]
