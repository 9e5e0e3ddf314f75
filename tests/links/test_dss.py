from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.links.dss import DSSBundleLink, show_bundle
from airflow_provider_hca.operators.dss import (
    DSSCheckoutBundleOperator,
    DSSDeleteBundleOperator,
    DSSDownloadBundleOperator,
    DSSPatchBundleOperator,
    DSSPutBundleOperator,
    DSSUploadDirectoryOperator,
)
from airflow_provider_hca.sensors.dss import DSSBundleSensor
from airflow_provider_hca.utils.ui_links import LINK_KEY, NAME_KEY, BundleAddress
from tests.local.server import LocalDSS, new_uuid
from tests.running import LOGICAL_DATE, ending, new_context, new_dag, output, run, states, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

VERSION = "2026-03-01T123000.000000Z"


def _expected(dss: LocalDSS, uuid: str, version: str | None = VERSION) -> str:
    """Return the expected link for the Airflow version under test."""
    address = BundleAddress("hca_dss_default", "aws", uuid, version)
    return address.on_page("") if AIRFLOW_V_3_1_PLUS else address.at_dss(dss.url)


def test_tasks_in_a_dag_link_to_their_bundles(dss: LocalDSS, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    uuid = new_uuid()
    with new_dag("links") as dag:
        upload = DSSUploadDirectoryOperator(task_id="upload", directory=str(tmp_path), staging_bucket=dss.bucket)
        which: dict[str, Any] = {"bundle_uuid": output(upload, "uuid"), "bundle_version": output(upload, "version")}
        put = DSSPutBundleOperator(task_id="put", files=[dss.entry("b")], bundle_uuid=uuid)
        DSSPatchBundleOperator(task_id="patch", bundle_uuid=output(put, "uuid"), add_files=[dss.entry("c")])
        DSSBundleSensor(task_id="wait", poke_interval=0.1, **which)
        DSSCheckoutBundleOperator(task_id="checkout", poll_interval=0.1, **which)
        DSSDownloadBundleOperator(task_id="download", directory=str(tmp_path / "fetched"), **which)
    dag_run = run(dag, logical_date=LOGICAL_DATE)
    assert set(states(dag_run).values()) == {"success"}
    uploaded = _expected(dss, xcom(dag_run, "upload", "uuid"))
    assert xcom(dag_run, "upload", NAME_KEY) == str(tmp_path)
    links = {task_id: xcom(dag_run, task_id, LINK_KEY) for task_id in states(dag_run)}
    assert links == {
        "upload": uploaded,
        "put": _expected(dss, uuid),
        "patch": _expected(dss, uuid, xcom(dag_run, "patch", "version")),
        "wait": uploaded,
        "checkout": uploaded,
        "download": uploaded,
    }


def test_task_that_fails_to_delete_a_bundle_links_to_it(dss: LocalDSS) -> None:
    uuid = new_uuid()
    with new_dag("deletes") as dag:
        DSSDeleteBundleOperator(task_id="delete", bundle_uuid=uuid, reason="test")  # unknown to the DSS
    assert xcom(run(dag), "delete", LINK_KEY) == _expected(dss, uuid, None)


def test_failed_task_has_its_link(dss: LocalDSS, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    dss.control("POST", "faults", {"method": "PUT", "path": "/files/", "action": "status", "status": 409})
    uuid = new_uuid()
    upload = DSSUploadDirectoryOperator(
        task_id="upload", directory=str(tmp_path), staging_bucket=dss.bucket, bundle_uuid=uuid, do_xcom_push=False
    )
    context = new_context()
    assert ending(upload, context) == "failed"
    assert context["ti"].pushed[LINK_KEY] == _expected(dss, uuid)


@pytest.mark.parametrize("change", [{"uuid": "x"}, {"replica": "azure"}, {"version": "1"}])
def test_invalid_arguments_store_no_link(change: dict[str, Any]) -> None:
    context = new_context()
    which: dict[str, Any] = {"replica": "aws", "uuid": new_uuid(), "version": None, **change}
    show_bundle(context, DSSHook(), **which)
    assert context["ti"].pushed == {}


def test_link_that_cannot_be_stored_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    context = new_context()

    def push(key: str, value: str) -> None:
        raise OSError(f"database error, {key} with {len(value)} characters is lost")

    context["ti"].xcom_push = push
    show_bundle(context, DSSHook(), replica="aws", uuid=new_uuid(), version=None)
    assert "cannot store the link to the bundle: database error" in caplog.text


@pytest.mark.parametrize(
    "operator",
    [
        DSSUploadDirectoryOperator,
        DSSPutBundleOperator,
        DSSPatchBundleOperator,
        DSSCheckoutBundleOperator,
        DSSDownloadBundleOperator,
        DSSBundleSensor,
    ],
)
def test_operators_declare_the_link(operator: Any) -> None:
    assert [link.name for link in operator.operator_extra_links] == ["DSS bundle"]
    assert isinstance(operator.operator_extra_links[0], DSSBundleLink)
