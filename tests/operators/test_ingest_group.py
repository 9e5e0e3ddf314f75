"""Test the task group that uploads many directories, each as a bundle."""

from __future__ import annotations

import importlib
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import AirflowException, Asset, AssetAlias, BaseNotifier, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_2_PLUS

from airflow_provider_hca.client.identifiers import bundle_uuid_of, derive_uuid
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSIngestTaskGroup
from airflow_provider_hca.operators.ingest import DSSIngestOperator
from airflow_provider_hca.utils.openlineage import OpenLineageMixin
from airflow_provider_hca.utils.ui_links import ERROR_KEY, PROGRESS_KEY
from tests.local.server import LocalDSS, new_uuid
from tests.running import LOGICAL_DATE, connection, new_context, new_dag, requests_of, run, states, xcom
from tests.validation import samples

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """Return a directory with four directories; names with spaces and a plus, as in the public bundles."""
    for name in ("CD4+ T cells", "liver", "lung", "skin"):
        write(tmp_path / name, 3)
    (tmp_path / "README.txt").write_text("no directory")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def write(directory: Path, count: int) -> None:
    (directory / "reads").mkdir(parents=True)
    for number in range(count):
        (directory / f"reads/{number}.json").write_text(json.dumps({"id": new_uuid()}))


@pytest.fixture
def prefix() -> str:
    return new_uuid()


def ingest(dss: LocalDSS, prefix: str, night: int, **options: Any) -> Any:
    """Run a batch; return the DAG run."""
    options.setdefault("bundle_key", f"{prefix}/{{{{ row.name }}}}")
    with new_dag("nightly_batch") as dag:
        DSSIngestTaskGroup(staging_bucket=dss.bucket, poll_interval=1, **{"retries": 0, **options})
    return run(dag, logical_date=LOGICAL_DATE + timedelta(days=night))


def report(dag_run: Any) -> dict[str, Any]:
    found: dict[str, Any] = xcom(dag_run, "ingest.report", "report")
    return found


def outcomes(dag_run: Any) -> dict[str, int]:
    """Return the outcomes that occurred."""
    found = report(dag_run)
    return {name: found[name] for name in ("created", "unchanged", "skipped", "invalid", "failed") if found[name]}


def members(dss: LocalDSS, key: str, replica: str = "aws") -> dict[str, str]:
    """Return the versions of the files of a bundle by name."""
    answer = dss.call("GET", f"/bundles/{bundle_uuid_of(key)}", replica=replica)
    assert answer.status_code == 200, answer.text
    return {file["name"]: file["version"] for file in answer.json()["bundle"]["files"]}


@pytest.mark.parametrize("replica", ["aws", "gcp"])
def test_nights_create_only_the_versions_that_changed(dss: LocalDSS, incoming: Path, prefix: str, replica: str) -> None:
    options: dict[str, Any] = {"directory": str(incoming), "replica": replica, "max_task_files": 6}
    one = ingest(dss, prefix, 1, **options)
    assert outcomes(one) == {"created": 4}
    assert len(members(dss, f"{prefix}/CD4+ T cells", replica)) == 3
    first = members(dss, f"{prefix}/liver", replica)

    (incoming / "liver/reads/0.json").write_text("{}")
    (incoming / "liver/reads/9.json").write_text("[]")
    (incoming / "liver/reads/1.json").unlink()
    two = ingest(dss, prefix, 2, **options)
    assert outcomes(two) == {"created": 1, "unchanged": 3}
    (bundle,) = report(two)["bundles"]
    assert bundle["directory"] == str(incoming / "liver")
    second = members(dss, f"{prefix}/liver", replica)
    assert second["reads/2.json"] == first["reads/2.json"]
    assert {second["reads/0.json"], second["reads/9.json"]} == {bundle["fqid"].partition(".")[2]}

    before = dss.control("GET", "store")
    assert outcomes(ingest(dss, prefix, 3, **options)) == {"unchanged": 4}
    assert dss.control("GET", "store") == before


def test_small_directories_share_a_task_and_large_ones_are_divided(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    write(incoming / "atlas", 7)
    dag_run = ingest(dss, prefix, 1, directory=str(incoming), max_task_files=3)
    labels = sorted(ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.task_id == "ingest.ingest")
    assert labels == ["CD4+ T cells", "atlas (1 of 3)", "atlas (2 of 3)", "atlas (3 of 3)", "liver", "lung", "skin"]
    assert outcomes(dag_run) == {"created": 5}
    assert xcom(dag_run, "ingest.report", PROGRESS_KEY) is None  # it would be that of one bundle
    assert len(members(dss, f"{prefix}/atlas")) == 7
    dag_run = ingest(dss, prefix, 2, directory=str(incoming), max_task_files=100)
    labels = [ti.rendered_map_index for ti in dag_run.get_task_instances() if ti.task_id == "ingest.ingest"]
    assert labels == ["CD4+ T cells, atlas, liver and 2 more"]
    assert outcomes(dag_run) == {"unchanged": 5}


def test_large_directory_changes_and_stays(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    write(incoming / "atlas", 7)
    options: dict[str, Any] = {"directory": str(incoming), "max_task_files": 3}
    ingest(dss, prefix, 1, **options)
    assert outcomes(ingest(dss, prefix, 2, **options)) == {"unchanged": 5}
    (incoming / "atlas/reads/0.json").write_text("{}")
    three = ingest(dss, prefix, 3, **options)
    assert outcomes(three) == {"created": 1, "unchanged": 4}
    assert sum(version == "2026-03-04T123000.000000Z" for version in members(dss, f"{prefix}/atlas").values()) == 1


def test_invalid_directory_does_not_stop_the_others(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    (incoming / "empty").mkdir()
    (incoming / "empty too").mkdir()
    (incoming / "liver/link").symlink_to("/etc/passwd")
    dag_run = ingest(dss, prefix, 1, directory=str(incoming))
    assert outcomes(dag_run) == {"created": 3, "invalid": 3}
    empty, linked = report(dag_run)["causes"]
    assert (empty["cause"], empty["count"]) == ("it has no files to upload", 2)
    assert empty["directories"] == [str(incoming / "empty"), str(incoming / "empty too")]
    assert linked["directories"] == [str(incoming / "liver")]
    assert linked["cause"].startswith("'link': is a symbolic link")
    assert states(dag_run) == {"ingest.plan": "success", "ingest.ingest": "success", "ingest.report": "failed"}


@pytest.mark.parametrize(("max_failed", "state"), [(1, "success"), (0.25, "success"), (0.2, "failed"), (0, "failed")])
def test_max_failed_decides_whether_the_run_fails(
    dss: LocalDSS, incoming: Path, prefix: str, max_failed: float, state: str
) -> None:
    for path in (incoming / "liver").rglob("*.json"):
        path.unlink()
    dag_run = ingest(dss, prefix, 1, directory=str(incoming), max_failed=max_failed)
    assert (outcomes(dag_run), states(dag_run)["ingest.report"]) == ({"created": 3, "invalid": 1}, state)
    assert (report(dag_run)["dss_conn_id"], report(dag_run)["replica"]) == ("hca_dss_default", "aws")
    reason = xcom(dag_run, "ingest.report", ERROR_KEY)
    assert "1 of 4 directories are invalid or failed" in reason if state == "failed" else reason is None


def test_lineage_has_directories_and_bundles_also_of_divided_ones(
    dss: LocalDSS, incoming: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(incoming / "large", 5)
    found: dict[str, Any] = {}
    report_lineage = DSSIngestOperator._report_lineage  # noqa: SLF001 - the operators are not at hand after the run

    def spy(self: DSSIngestOperator, *args: Any) -> None:
        report_lineage(self, *args)
        found[self.task_id] = self.get_openlineage_facets_on_complete(None)

    monkeypatch.setattr(OpenLineageMixin, "_report_lineage", spy)
    ingest(dss, prefix, 1, directory=str(incoming), max_task_files=4, max_active_tis_per_dagrun=1)
    lineage = found["ingest.report"]
    assert [dataset.name for dataset in lineage.inputs] == [str(incoming / "large")]
    assert [bundle_uuid_of(f"{prefix}/large") in dataset.name for dataset in lineage.outputs] == [True]


def test_next_night_takes_up_what_failed(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    uuid = bundle_uuid_of(f"{prefix}/liver")
    dss.control("POST", "faults", {"method": "PUT", "path": f"/bundles/{uuid}", "status": 400, "times": 99})
    one = ingest(dss, prefix, 1, directory=str(incoming))
    dss.control("DELETE", "faults")
    assert outcomes(one) == {"created": 3, "failed": 1}
    assert states(one) == {"ingest.plan": "success", "ingest.ingest": "failed", "ingest.report": "failed"}
    assert "1 of 4 directories failed" in xcom(one, "ingest.ingest", ERROR_KEY, map_index=0)
    puts = requests_of(dss, "PUT", "/files/")
    assert outcomes(ingest(dss, prefix, 2, directory=str(incoming))) == {"created": 1, "unchanged": 3}
    assert requests_of(dss, "PUT", "/files/") == puts


def test_retry_uploads_only_what_failed(
    dss: LocalDSS, incoming: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=2))
    uuid = bundle_uuid_of(f"{prefix}/liver")
    dss.control("POST", "faults", {"method": "PUT", "path": f"/bundles/{uuid}", "status": 500, "times": 3})
    dag_run = ingest(dss, prefix, 1, directory=str(incoming), retries=2, retry_delay=timedelta(0))
    dss.control("DELETE", "faults")
    assert outcomes(dag_run) == {"created": 4}
    assert len([file for file in dss.control("GET", "store")["files"] if file["uuid"] in _uuids(prefix)]) == 12


def _uuids(prefix: str) -> set[str]:
    keys = [f"{prefix}/{name}" for name in ("CD4+ T cells", "liver", "lung", "skin")]
    return {derive_uuid(bundle_uuid_of(key), f"reads/{number}.json") for key in keys for number in range(3)}


def test_progress_counts_directories_in_few_reports(dss: LocalDSS, tmp_path: Path, prefix: str) -> None:
    """A report to Airflow takes longer than the upload of a small directory."""
    reports: list[dict[str, Any]] = []
    context = new_context()

    def push(key: str, value: dict[str, Any]) -> None:
        if key == PROGRESS_KEY:
            reports.append(value)

    context["ti"].xcom_push = push
    for number in range(40):
        write(tmp_path / f"{number}", 1)
    rows = [{"directory": str(tmp_path / f"{number}"), "bundle_key": f"{prefix}/{number}"} for number in range(40)]
    unit = {"label": "all", "rows": rows}
    operator = DSSIngestOperator(task_id="ingest", unit=unit, staging_bucket=dss.bucket, partitioned=False)
    operator.execute(context)
    assert len(reports) < 20
    expected = {"phase": "directories", "phase_done": 40, "phase_files": 40, "file_count": 40}
    assert expected.items() <= reports[-1].items()
    assert reports[-1]["byte_count"] == sum(path.stat().st_size for path in tmp_path.rglob("*.json"))


def test_nothing_changed_needs_no_store(
    dss: LocalDSS, incoming: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(dss, prefix, 1, directory=str(incoming))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert outcomes(ingest(dss, prefix, 2, directory=str(incoming))) == {"unchanged": 4}
    (incoming / "liver/reads/0.json").write_text("{}")
    three = ingest(dss, prefix, 3, directory=str(incoming))
    assert outcomes(three)["failed"] >= 1
    (cause,) = [cause["cause"] for cause in report(three)["causes"] if str(incoming / "liver") in cause["directories"]]
    assert "no AWS credentials on this worker" in cause


def test_requests_per_second_are_limited_while_directories_are_compared(
    dss: LocalDSS, incoming: Path, prefix: str
) -> None:
    ingest(dss, prefix, 1, directory=str(incoming))
    started = time.monotonic()
    two = ingest(dss, prefix, 2, directory=str(incoming), max_requests_per_second=2)
    assert outcomes(two) == {"unchanged": 4}
    assert time.monotonic() - started > 3  # 8 requests


def test_rows_of_another_task(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    with new_dag("batch_of_rows") as dag:

        @task
        def found() -> list[Any]:
            return [
                {"directory": f"{incoming}/{name}", "donor": donor} for name, donor in [("liver", "1"), ("lung", "2")]
            ]

        DSSIngestTaskGroup(
            rows=found(), bundle_key=prefix + "/{{ row.donor }}/{{ row.name }}", staging_bucket=dss.bucket, retries=0
        )
    assert outcomes(run(dag)) == {"created": 2}
    assert members(dss, f"{prefix}/1/liver")


@pytest.mark.parametrize(("name", "delimiter"), [("rows.csv", ","), ("rows.tsv", "\t")])
def test_table_of_directories(dss: LocalDSS, incoming: Path, prefix: str, name: str, delimiter: str) -> None:
    lines = [["directory", "bundle_key"], ["liver", f"{prefix}/a"], [str(incoming / "lung"), f"{prefix}/b"]]
    (incoming / name).write_text("\n".join(delimiter.join(line) for line in lines))
    dag_run = ingest(dss, prefix, 1, table=str(incoming / name), bundle_key=None)
    assert outcomes(dag_run) == {"created": 2}
    assert members(dss, f"{prefix}/a")
    assert members(dss, f"{prefix}/b")


def test_prefix_of_a_bucket(dss: LocalDSS, prefix: str) -> None:
    for name in ("liver/a.json", "liver/b/c.json", "lung/a.json"):
        dss.s3.put_object(Bucket=dss.bucket, Key=f"{prefix}/{name}", Body=new_uuid().encode())
    options: dict[str, Any] = {"directory": f"s3://{dss.bucket}/{prefix}", "staging_prefix": "staged"}
    assert outcomes(ingest(dss, prefix, 1, **options)) == {"created": 2}
    assert {*members(dss, f"{prefix}/liver")} == {"a.json", "b/c.json"}
    assert outcomes(ingest(dss, prefix, 2, **options)) == {"unchanged": 2}


def test_key_that_occurs_twice_is_refused(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    puts = requests_of(dss, "PUT", "/")
    dag_run = ingest(dss, prefix, 1, directory=str(incoming), bundle_key=prefix)
    found = states(dag_run)
    assert (found["ingest.plan"], found["ingest.report"]) == ("failed", "failed")
    assert requests_of(dss, "PUT", "/") == puts


def test_directory_with_invalid_metadata_is_not_uploaded(
    dss: LocalDSS, incoming: Path, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    schemas = samples.write_schemas(tmp_path_factory.mktemp("schemas"))
    for name in ("liver", "lung", "skin"):
        samples.write(incoming / name, samples.bundle())
    (incoming / "lung/project_0.json").unlink()
    (incoming / "skin/links.json").write_text("{")
    (incoming / "CD4+ T cells/reads/0.json").write_text("")
    dag_run = ingest(dss, prefix, 1, directory=str(incoming), validate=str(schemas), max_failed=3)
    assert outcomes(dag_run) == {"created": 1, "invalid": 3}
    assert report(dag_run)["bundles"][0]["bundle_key"] == f"{prefix}/liver"
    findings = xcom(dag_run, "ingest.plan", "validation")
    checks = {Path(name).name: {found["check"] for found in one["findings"]} for name, one in findings.items()}
    assert checks == {"CD4+ T cells": {"empty", "required"}, "lung": {"required"}, "skin": {"json"}}


def test_each_bundle_has_an_asset_event(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    write(incoming / "atlas", 7)
    options: dict[str, Any] = {"directory": str(incoming), "max_task_files": 6, "outlets": [AssetAlias(prefix)]}
    one = ingest(dss, prefix, 1, **options)
    assert alias_events(prefix) == sorted(bundle["fqid"] for bundle in report(one)["bundles"])
    (incoming / "lung/reads/0.json").write_text("{}")
    two = ingest(dss, prefix, 2, **options)
    (bundle,) = report(two)["bundles"]
    assert len(alias_events(prefix)) == 6
    assert bundle["fqid"] in alias_events(prefix)


def _check_partitions(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    write(incoming / "atlas", 7)
    options: dict[str, Any] = {"outlets": [Asset(name=prefix, uri=f"x-dss-test://{prefix}")], "partitioned": True}
    dag_run = ingest(dss, prefix, 1, directory=str(incoming), max_task_files=6, **options)
    with create_session() as session:
        query = session.query(AssetEvent.partition_key).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        keys = sorted(str(key) for (key,) in query.filter(AssetModel.name == prefix))
    assert keys == sorted(bundle["fqid"] for bundle in report(dag_run)["bundles"])
    assert len(keys) == 5


if AIRFLOW_V_3_2_PLUS:
    test_each_bundle_is_a_partition = _check_partitions


def test_partitions_need_a_newer_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_hca.operators.ingest_group.AIRFLOW_V_3_2_PLUS", False)
    with new_dag("batch_partitioned"), pytest.raises(ValueError, match=r"partitioned needs Airflow 3\.2"):
        DSSIngestTaskGroup(directory="/a", staging_bucket="staging", partitioned=True)


def alias_events(alias: str) -> list[str]:
    """Return the FQIDs of the events of an alias."""
    from airflow.utils.session import create_session

    kind = "asset" if AIRFLOW_V_3_0_PLUS else "dataset"
    models = importlib.import_module(f"airflow.models.{kind}")
    with create_session() as session:
        aliases = getattr(models, f"{kind.title()}AliasModel")
        found = session.query(aliases).filter(aliases.name == alias).one()
        return sorted(event.extra["fqid"] for event in getattr(found, f"{kind}_events"))


def test_collection_has_the_latest_versions(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    collection = new_uuid()
    with DSSHook() as hook:
        other = {"type": "file", "uuid": new_uuid(), "version": "2025-01-01T000000.000000Z"}
        dss.put_file(dss.stage(b"x"), other["uuid"], other["version"])
        hook.put_collection(
            collection, "2025-01-01T000000.000000Z", replica="aws", name="n", description="d", contents=[other]
        )
        options: dict[str, Any] = {"directory": str(incoming), "collection_uuid": collection}
        ingest(dss, prefix, 1, **options)
        (incoming / "lung/reads/0.json").write_text("{}")
        two = ingest(dss, prefix, 2, **options)
        contents = hook.get_collection(collection, replica="aws")["contents"]
    assert other in contents
    latest = {f"{item['uuid']}.{item['version']}" for item in contents if item["type"] == "bundle"}
    assert len(latest) == len(contents) - 1 == 4
    assert report(two)["bundles"][0]["fqid"] in latest


def test_on_report_is_called_also_when_the_run_fails(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    (incoming / "empty").mkdir()
    called: list[dict[str, Any]] = []
    ingest(dss, prefix, 1, directory=str(incoming), on_report=lambda found, _: called.append(found))
    assert [(found["created"], found["invalid"]) for found in called] == [(4, 1)]


class _Notifier(BaseNotifier):
    template_fields = ("text",)
    sent: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Send the text."""
        self.sent.append(f"{context['dag'].dag_id}: {self.text}")


def test_notifier_has_the_report(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    ingest(dss, prefix, 1, directory=str(incoming), on_report=_Notifier("{{ report.created }} created"))
    assert _Notifier.sent == ["nightly_batch: 4 created"]


def test_task_that_did_not_finish_is_reported(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    dss.control("POST", "faults", {"method": "GET", "path": "/bundles/all", "status": 401, "times": 99})
    dag_run = ingest(dss, prefix, 1, directory=str(incoming))
    dss.control("DELETE", "faults")
    assert outcomes(dag_run) == {"failed": 4}


def test_report_runs_when_all_directories_are_invalid(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    for path in incoming.rglob("*.json"):
        path.unlink()
    dag_run = ingest(dss, prefix, 1, directory=str(incoming))
    assert outcomes(dag_run) == {"invalid": 4}
    assert states(dag_run) == {"ingest.plan": "success", "ingest.ingest": "skipped", "ingest.report": "failed"}


def test_older_date_is_skipped(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    ingest(dss, prefix, 5, directory=str(incoming))
    (incoming / "lung/reads/0.json").write_text("{}")
    options: dict[str, Any] = {"directory": str(incoming), "if_newer_exists": "skip"}
    assert outcomes(ingest(dss, prefix, 4, **options)) == {"skipped": 1, "unchanged": 3}
    assert outcomes(ingest(dss, prefix, 3, directory=str(incoming))) == {"failed": 1, "unchanged": 3}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "give one of directory, table and rows"),
        ({"directory": "/a", "table": "/b"}, ValueError, "give one of"),
        ({"directory": "/a", "max_task_files": 0}, ValueError, "max_task_files must be an integer of at least 1"),
        ({"directory": "/a", "hidden": "yes"}, ValueError, "hidden must be one of"),
        ({"directory": "/a", "bundle_uuid": new_uuid()}, TypeError, "does not accept bundle_uuid"),
        ({"directory": "/a", "if_unchanged": "skip"}, TypeError, "does not accept if_unchanged"),
        ({"directory": "/a", "if_newer_exists": "x"}, ValueError, "if_newer_exists must be one of fail, skip"),
        ({"directory": "/a", "colour": 1}, (TypeError, AirflowException), "colour"),
    ],
)
def test_invalid_arguments_fail_when_the_dag_is_parsed(
    options: dict[str, Any], error: type[Exception] | tuple[type[Exception], ...], message: str
) -> None:
    with new_dag("batch_invalid"), pytest.raises(error, match=message):
        DSSIngestTaskGroup(staging_bucket="staging", **options)


def test_divided_directory_whose_bundle_is_refused_is_reported(dss: LocalDSS, incoming: Path, prefix: str) -> None:
    write(incoming / "atlas", 7)
    uuid = bundle_uuid_of(f"{prefix}/atlas")
    dss.control("POST", "faults", {"method": "PUT", "path": f"/bundles/{uuid}", "status": 400, "times": 99})
    options: dict[str, Any] = {"directory": str(incoming), "max_task_files": 6}
    one = ingest(dss, prefix, 1, **options)
    dss.control("DELETE", "faults")
    assert outcomes(one) == {"created": 4, "failed": 1}
    assert report(one)["causes"][0]["directories"] == [str(incoming / "atlas")]
    assert outcomes(ingest(dss, prefix, 2, **options)) == {"created": 1, "unchanged": 4}
