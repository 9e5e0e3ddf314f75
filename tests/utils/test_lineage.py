"""Test the events of outlets."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.assets.dss import bundle_uri, dss_host
from airflow_provider_hca.operators.dss import (
    DSSPatchBundleOperator,
    DSSPutBundleOperator,
    DSSUploadDirectoryOperator,
    DSSUploadTaskGroup,
)
from airflow_provider_hca.utils.openlineage import add_to_outlets
from tests.local.server import LocalDSS, new_uuid
from tests.running import connection, event_extras, new_context, new_dag, new_date, output, run, states, tries, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


@pytest.fixture
def asset(dss: LocalDSS) -> Asset:
    """Return an asset that no other test has."""
    return Asset(uri=f"dss://{dss_host(dss.url)}/aws/tests/{new_uuid()[:8]}")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory of three files, one copied asynchronously."""
    root = tmp_path / "cells"
    root.mkdir()
    (root / "a.json").write_text(json.dumps(new_uuid()))
    (root / "b.txt").write_text("b")
    (root / "large.bin").write_bytes(new_uuid().encode() * 4_000)
    return root


def expected(dss: LocalDSS, result: dict[str, Any], **known: int) -> dict[str, Any]:
    """Return the expected extra of an outlet's event."""
    extra = {name: result[name] for name in ("fqid", "uuid", "version", "replica", "file_count")}
    return {**extra, "host": dss_host(dss.url), **known}


def test_deferred_upload_reports_the_bundle_to_assets_and_aliases(dss: LocalDSS, asset: Asset, directory: Path) -> None:
    with new_dag("outlets_deferred") as dag:
        DSSUploadDirectoryOperator(
            task_id="upload",
            directory=str(directory),
            staging_bucket=dss.bucket,
            deferrable=True,
            poll_interval=1,
            outlets=[asset, AssetAlias("bundles")],
        )
    result = xcom(run(dag), "upload")
    assert result["statistics"]["copied_file_count"] == 1
    size = sum(path.stat().st_size for path in directory.iterdir())
    uri = f"dss://{dss_host(dss.url)}/aws/{result['fqid']}"
    assert event_extras(asset.uri) == event_extras(uri) == [expected(dss, result, bytes=size)]


def test_put_and_patch_report_their_bundles(dss: LocalDSS, asset: Asset) -> None:
    with new_dag("outlets_put") as dag:
        put = DSSPutBundleOperator(task_id="put", files=[dss.entry("a"), dss.entry("b")], outlets=[asset])
        patch = DSSPatchBundleOperator(
            task_id="patch", bundle_uuid=output(put, "uuid"), add_files=[dss.entry("c")], outlets=[asset]
        )
        put >> patch
    dag_run = run(dag)
    result, patched = xcom(dag_run, "put"), xcom(dag_run, "patch")
    assert result["version"] < patched["version"]
    assert event_extras(asset.uri) == [expected(dss, result), expected(dss, patched)]


def test_group_reports_its_bundle_once(dss: LocalDSS, asset: Asset, directory: Path) -> None:
    with new_dag("outlets_group") as dag:
        DSSUploadTaskGroup(
            directory=str(directory), staging_bucket=dss.bucket, max_shard_files=2, outlets=[asset, AssetAlias("g")]
        )
    result = xcom(run(dag), "upload.bundle")
    extra = expected(dss, result, bytes=result["byte_count"])
    uri = bundle_uri(dss.url, replica="aws", uuid=result["uuid"], version=result["version"])
    assert event_extras(asset.uri) == event_extras(uri) == [extra]


def test_retry_and_rerun_report_the_existing_bundle(
    dss: LocalDSS, asset: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    # Neither the PUT is answered nor the request that looks up its result.
    dss.control("POST", "faults", {"path": "/bundles/", "action": "drop", "after": True, "times": 2})
    with new_dag("outlets_retry") as dag:
        DSSPutBundleOperator(
            task_id="put", files=[dss.entry("a")], retries=1, retry_delay=timedelta(0), outlets=[asset]
        )
    date = new_date()
    dag_run = run(dag, logical_date=date)
    result = xcom(dag_run, "put")
    assert (states(dag_run), tries(dag_run, "put")) == ({"put": "success"}, 2)
    assert result["created"] is False
    assert event_extras(asset.uri) == [expected(dss, result)]
    run(dag, logical_date=date)
    assert event_extras(asset.uri) == [expected(dss, result)] * 2


if AIRFLOW_V_3_0_PLUS:  # which has references to assets of other DAGs

    def test_asset_reference_gets_the_same_event(dss: LocalDSS, asset: Asset) -> None:
        with new_dag("outlets_reference") as dag:
            put = DSSPutBundleOperator(task_id="put", files=[dss.entry("a")], outlets=[asset])
            again = DSSPutBundleOperator(task_id="again", files=[dss.entry("b")], outlets=[Asset.ref(uri=asset.uri)])
            put >> again
        dag_run = run(dag)
        extras = [expected(dss, xcom(dag_run, task_id)) for task_id in ("put", "again")]
        assert event_extras(asset.uri) == extras


def test_without_outlets_the_context_is_not_read() -> None:
    context = new_context()
    add_to_outlets(context, [], "https://dss.example.org/v1", {})
    assert context["ti"].pushed == {}
