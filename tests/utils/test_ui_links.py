from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_hca.links.dss import DSSBundleLink
from airflow_provider_hca.utils.ui_links import LINK_KEY, BundleAddress

UUID = "1b9d8b6e-4c2a-4a7b-9f5e-0a1b2c3d4e5f"
VERSION = "2026-03-01T123000.000000Z"


@pytest.mark.parametrize("version", [VERSION, None])
@pytest.mark.parametrize("conn_id", ["hca_dss_default", "a b&c=d#e/f?"])
@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("", "/plugin/dss/hca-dss/bundle"),
        ("https://airflow.example.org", "/plugin/dss/hca-dss/bundle"),
        ("https://example.org/tools/airflow/", "/tools/airflow/plugin/dss/tools/airflow/hca-dss/bundle"),
    ],
)
def test_an_address_survives_its_link(conn_id: str, version: str | None, base_url: str, path: str) -> None:
    """A link is a path of Airflow, wherever that is, and tells all of the address that it was made of."""
    address = BundleAddress(conn_id, "gcp", UUID, version)
    link = address.on_page(base_url)
    assert link.split("?")[0] == path
    assert BundleAddress.of(link) == address


def test_an_address_is_checked() -> None:
    """What names no bundle makes no address; an upper-case uuid is lower-cased."""
    assert BundleAddress.checked("c", "aws", UUID.upper(), "").uuid == UUID
    for replica, uuid, version in (("azure", UUID, VERSION), ("aws", "x", VERSION), ("aws", UUID, "1")):
        with pytest.raises(ValueError, match="must be"):
            BundleAddress.checked("c", replica, uuid, version)


@pytest.mark.parametrize(
    "link",
    [
        None,
        3,
        "",
        "https://dss.example.org/v1/bundles/x?replica=aws",
        "/plugin/dss/hca-dss/bundle?connection=c&replica=aws",
        f"/plugin/dss/hca-dss/bundle?connection=c&replica=azure&uuid={UUID}",
        f"/plugin/dss/hca-dss/bundle?connection=c&replica=aws&uuid={UUID}&version=x",
        "http://[/plugin/dss?x",
    ],
)
def test_another_link_is_no_address(link: Any) -> None:
    """A link that was not made so, or was changed, is no address."""
    assert BundleAddress.of(link) is None


def test_the_dss_itself_is_asked_with_version_and_replica() -> None:
    """The other link is that of the DSS's own interface."""
    api = "https://dss.example.org/v1"
    assert BundleAddress("c", "aws", UUID).at_dss(api) == f"{api}/bundles/{UUID}?replica=aws"
    told = BundleAddress("c", "aws", UUID, VERSION).at_dss(api)
    assert told == f"{api}/bundles/{UUID}?replica=aws&version={VERSION}"


def test_the_link_is_kept_where_airflow_looks_for_it() -> None:
    """The key is the one under which Airflow 3 keeps what a link class of this name returns."""
    assert f"_link_{DSSBundleLink.__name__}" == LINK_KEY
    assert getattr(DSSBundleLink(), "xcom_key", LINK_KEY) == LINK_KEY
