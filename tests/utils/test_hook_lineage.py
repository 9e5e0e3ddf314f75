"""Test hook-level lineage; tests/utils/test_openlineage.py has the OpenLineage events."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSPatchBundleOperator, DSSPutBundleOperator
from airflow_provider_hca.utils.hook_lineage import report_bundle
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import new_context

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


def test_without_a_reader_nothing_is_collected(dss: LocalDSS) -> None:
    uuid = new_uuid()
    with DSSHook() as hook:
        hook.put_bundle(uuid, VERSION, replica="aws", files=[dss.entry("a")])
        hook.get_bundle(uuid, replica="aws")
    assert not get_hook_lineage_collector().has_collected  # type: ignore[no-untyped-call]  # it has no types


def test_failed_report_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with DSSHook() as hook:
        report_bundle(hook, hook.api.url, "output", uuid="no-uuid", version=VERSION, replica="aws")
    assert "cannot report the lineage of bundle no-uuid" in caplog.text


def test_operator_does_not_report_its_bundle_at_hook_level(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []

    def add(context: object, uri: str) -> None:
        reported.append(uri)

    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]  # it has no types
    monkeypatch.setattr(collector, "add_output_asset", add, raising=False)
    put = DSSPutBundleOperator(task_id="put", files=[dss.entry("a")], bundle_uuid=new_uuid()).execute(new_context())
    operator = DSSPatchBundleOperator(task_id="patch", bundle_uuid=put["uuid"], add_files=[dss.entry("b")])
    patched = operator.execute(new_context())
    assert reported == []
    with DSSHook() as hook:
        hook.put_bundle(new_uuid(), VERSION, replica="aws", files=[dss.entry("a")])
        report_bundle(hook, dss.url, "output", **{name: patched[name] for name in ("uuid", "version", "replica")})
    by_operator = operator.get_openlineage_facets_on_complete(None)
    assert by_operator is not None
    (dataset,) = by_operator.outputs
    assert [f"{dataset.namespace}/{dataset.name}"] == reported[1:]
