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
def test_host_has_a_port_only_if_it_is_not_the_default(url: str, host: str) -> None:
    assert dss_host(url) == host


def test_bundle_uri() -> None:
    url = "https://dss.example.org/v1"
    expected = f"dss://dss.example.org/aws/{UUID}"
    assert bundle_uri(url, replica="aws", uuid=UUID.upper(), version=VERSION) == f"{expected}.{VERSION}"
    assert bundle_uri(url, replica="aws", uuid=UUID) == expected


@pytest.mark.parametrize("change", [{"replica": "azure"}, {"uuid": "x"}, {"version": "1"}, {"api_url": "dss"}])
def test_bundle_uri_with_invalid_arguments_is_an_error(change: dict[str, Any]) -> None:
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
def test_uris_are_normalized(given: str, expected: str) -> None:
    assert Asset(uri=given).uri == sanitized(given) == expected


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("dss:///aws/x", "the host is missing"),
        ("dss://dss.example.org/", "replica must be 'aws' or 'gcp', got ''"),
        ("dss://dss.example.org/azure/x", "replica must be 'aws' or 'gcp', got 'azure'"),
        ("dss://dss.example.org:port/aws/x", "the port must be a number"),
        (f"dss://dss.example.org/aws/{UUID}.latest", "version must be a DSS_VERSION"),
        (f"dss://dss.example.org/aws/{UUID}.", "version must be a DSS_VERSION"),
        ("dss://dss.example.org/aws/ce55fd51-7833-469b-0e0b-5da88ebebfcd", "uuid must be a UUID"),
        (f"dss://dss.example.org/aws/{UUID}.{VERSION}/file", "nothing may follow the UUID of a bundle"),
        ("dss://dss.example.org/aws//x", "an empty segment"),
        ("dss://dss.example.org/aws/x?version=1", "user, query and fragment are not allowed"),
    ],
)
def test_invalid_uri_is_an_error_when_the_dag_is_parsed(uri: str, why: str) -> None:
    """Airflow 2 only warns by default."""
    with pytest.raises(ValueError, match=why):
        sanitized(uri)
    if AIRFLOW_V_3_0_PLUS or conf.getboolean("core", "strict_dataset_uri_validation", fallback=False):
        with pytest.raises(ValueError, match=why):
            Asset(uri=uri)
    else:
        with pytest.warns(UserWarning, match=why):
            Asset(uri=uri)


def test_secrets_of_an_invalid_uri_are_not_quoted() -> None:
    with pytest.raises(ValueError, match="user, query and fragment") as caught:
        sanitized("dss://s3cret@dss.example.org/aws/x?token=s3cret")
    assert "s3cret" not in str(caught.value)


def test_openlineage_dataset_has_namespace_and_name() -> None:
    dataset = to_openlineage(Asset(uri=f"dss://dss.example.org:8080/aws/{UUID}.{VERSION}"), None)
    assert (dataset.namespace, dataset.name) == ("dss://dss.example.org:8080", f"aws/{UUID}.{VERSION}")


def test_openlineage_provider_finds_the_converter() -> None:
    from airflow.providers.openlineage.utils.utils import translate_airflow_asset

    dataset = translate_airflow_asset(Asset(uri=f"dss://dss.example.org/aws/{UUID.upper()}"), None)
    assert dataset is not None
    assert (dataset.namespace, dataset.name) == ("dss://dss.example.org", f"aws/{UUID}")


def test_module_has_few_imports() -> None:
    code = "import sys, urllib.parse; before = set(sys.modules); import airflow_provider_hca.assets.dss; print("
    code += "*sorted(name for name in set(sys.modules) - before if name.startswith('airflow')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package = "airflow_provider_hca"
    assert done.stdout.split() == [
        *(package, f"{package}.assets", f"{package}.assets.dss"),
        *(f"{package}.client{name}" for name in ("", ".identifiers", ".models")),
    ]
