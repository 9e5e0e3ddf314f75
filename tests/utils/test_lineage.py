"""What tasks tell of their bundles: the events of their outlets."""

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
    """Make three files, one of which the DSS of the tests copies later."""
    root = tmp_path / "cells"
    root.mkdir()
    (root / "a.json").write_text(json.dumps(new_uuid()))
    (root / "b.txt").write_text("b")
    (root / "large.bin").write_bytes(new_uuid().encode() * 4_000)
    return root


def expected(dss: LocalDSS, made: dict[str, Any], **known: int) -> dict[str, Any]:
    """Return what the event of an outlet is to say of the bundle that a task returned."""
    told = {name: made[name] for name in ("fqid", "uuid", "version", "replica", "file_count")}
    return {**told, "host": dss_host(dss.url), **known}


def test_deferred_upload_reports_the_bundle_to_assets_and_aliases(dss: LocalDSS, asset: Asset, directory: Path) -> None:
    """The event of the outlet has FQID, counts and bytes; an alias leads to an asset with the URI of the bundle."""
    with new_dag("outlets_deferred") as dag:
        DSSUploadDirectoryOperator(
            task_id="upload",
            directory=str(directory),
            staging_bucket=dss.bucket,
            deferrable=True,
            poll_interval=1,
            outlets=[asset, AssetAlias("bundles")],
        )
    made = xcom(run(dag), "upload")
    assert made["statistics"]["copied_file_count"] == 1
    size = sum(path.stat().st_size for path in directory.iterdir())
    uri = f"dss://{dss_host(dss.url)}/aws/{made['fqid']}"
    assert event_extras(asset.uri) == event_extras(uri) == [expected(dss, made, bytes=size)]


def test_put_and_patch_tell_their_bundles(dss: LocalDSS, asset: Asset) -> None:
    """A bundle that is put of files, and the version that a patch makes of it, are told, without what is not known."""
    with new_dag("outlets_put") as dag:
        put = DSSPutBundleOperator(task_id="put", files=[dss.entry("a"), dss.entry("b")], outlets=[asset])
        patch = DSSPatchBundleOperator(
            task_id="patch", bundle_uuid=output(put, "uuid"), add_files=[dss.entry("c")], outlets=[asset]
        )
        put >> patch
    dag_run = run(dag)
    made, patched = xcom(dag_run, "put"), xcom(dag_run, "patch")
    assert made["version"] < patched["version"]
    assert event_extras(asset.uri) == [expected(dss, made), expected(dss, patched)]


def test_a_group_tells_its_bundle_once(dss: LocalDSS, asset: Asset, directory: Path) -> None:
    """The outlets of a group are those of the task that makes the bundle: no shard starts who waits for it."""
    with new_dag("outlets_group") as dag:
        DSSUploadTaskGroup(
            directory=str(directory), staging_bucket=dss.bucket, max_shard_files=2, outlets=[asset, AssetAlias("g")]
        )
    made = xcom(run(dag), "upload.bundle")
    told = expected(dss, made, bytes=made["byte_count"])
    uri = bundle_uri(dss.url, replica="aws", uuid=made["uuid"], version=made["version"])
    assert event_extras(asset.uri) == event_extras(uri) == [told]


def test_every_try_tells_the_bundle_that_is_there(dss: LocalDSS, asset: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try that ends before it knows of the bundle tells nothing; the next tells what it finds, as does a rerun."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    # The PUT is not answered, and the look for what has come of it neither.
    dss.control("POST", "faults", {"path": "/bundles/", "action": "drop", "after": True, "times": 2})
    with new_dag("outlets_retry") as dag:
        DSSPutBundleOperator(
            task_id="put", files=[dss.entry("a")], retries=1, retry_delay=timedelta(0), outlets=[asset]
        )
    date = new_date()
    dag_run = run(dag, logical_date=date)
    made = xcom(dag_run, "put")
    assert (states(dag_run), tries(dag_run, "put")) == ({"put": "success"}, 2)
    assert made["created"] is False
    assert event_extras(asset.uri) == [expected(dss, made)]
    run(dag, logical_date=date)
    assert event_extras(asset.uri) == [expected(dss, made)] * 2


if AIRFLOW_V_3_0_PLUS:  # where an outlet can be a reference to an asset that another DAG defines

    def test_a_reference_is_told_as_the_asset_is(dss: LocalDSS, asset: Asset) -> None:
        """The event of an asset that the outlets only refer to has the same."""
        with new_dag("outlets_reference") as dag:
            put = DSSPutBundleOperator(task_id="put", files=[dss.entry("a")], outlets=[asset])
            again = DSSPutBundleOperator(task_id="again", files=[dss.entry("b")], outlets=[Asset.ref(uri=asset.uri)])
            put >> again
        dag_run = run(dag)
        told = [expected(dss, xcom(dag_run, task_id)) for task_id in ("put", "again")]
        assert event_extras(asset.uri) == told


def test_without_outlets_nothing_is_looked_at() -> None:
    """A task without outlets needs nothing of Airflow to tell of its bundle."""
    context = new_context()
    add_to_outlets(context, [], "https://dss.example.org/v1", {})
    assert context["ti"].pushed == {}
